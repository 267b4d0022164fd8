"""Image files: one reader, whatever their mode, orientation or damage."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_cascade.utils.image_format import (
    ImageFormat,
    scale_of,
    scale_of_range,
)

RED, BLUE = (255, 0, 0), (0, 0, 255)


def two_halves(left=RED, right=BLUE, size=8):
    """An image whose left half has one colour and whose right the other."""
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[:, : size // 2], pixels[:, size // 2 :] = left, right
    return Image.fromarray(pixels)


def saved(image, ending, **options):
    stream = io.BytesIO()
    image.save(stream, ending, **options)
    return stream.getvalue()


def read(file, size=8, channels=3):
    return ImageFormat(size, size, channels).pixels(file)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        ("RGB", "PNG"),
        ("RGB", "BMP"),
        ("RGB", "WEBP"),
        ("RGB", "TIFF"),
        ("RGBA", "PNG"),
        ("P", "PNG"),
        ("P", "GIF"),
        ("CMYK", "TIFF"),
    ],
)
def test_modes_and_formats_of_the_same_image(mode, ending):
    options = {"lossless": True} if ending == "WEBP" else {}
    image = two_halves().convert(mode)
    pixels = read(saved(image, ending, **options))
    np.testing.assert_array_equal(pixels, np.asarray(two_halves()))


def test_jpeg_in_rgb_and_cmyk_is_nearly_the_same():
    for mode in ("RGB", "CMYK", "L"):
        raw = saved(two_halves().convert(mode), "JPEG", quality=95)
        expected = np.asarray(two_halves().convert(mode).convert("RGB"), int)
        difference = abs(read(raw) - expected)
        # Colours are stored at half the resolution: not beside the edge.
        assert difference[:, [0, 1, 6, 7]].max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_camera(orientation):
    # What the viewer should see, and how a camera that was held in each way
    # stores it: the inverse of what the tag asks for.
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[orientation]
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = image.getexif()
    exif[0x0112] = orientation
    raw = saved(image, "PNG", exif=exif)
    pixels = ImageFormat(2, 3, channels=1).pixels(raw)
    np.testing.assert_array_equal(pixels[..., 0], upright)


def test_transparency_is_put_on_white():
    transparent = two_halves().convert("RGBA")
    alpha = np.full((8, 8), 255, np.uint8)
    alpha[:, 4:] = 0
    transparent.putalpha(Image.fromarray(alpha))
    expected = np.asarray(two_halves(right=(255, 255, 255)))
    np.testing.assert_array_equal(read(saved(transparent, "PNG")), expected)
    palette = two_halves().convert("P", palette=Image.Palette.ADAPTIVE)
    index = np.asarray(palette)[0, 7]
    raw = saved(palette, "PNG", transparency=int(index))
    np.testing.assert_array_equal(read(raw), expected)
    # A model of four channels gets them as they are.
    pixels = read(saved(transparent, "PNG"), channels=4)
    np.testing.assert_array_equal(pixels[..., 3], alpha)


def test_16_bits_are_rounded_to_8():
    values = np.array([[0, 257, 128 * 257, 65_535]], np.uint16)
    raw = saved(Image.fromarray(values), "PNG")
    pixels = ImageFormat(1, 4, channels=1).pixels(raw)
    assert pixels[0, :, 0].tolist() == [0, 1, 128, 255]


def test_a_smaller_image_averages_over_all_pixels():
    # Stripes of one pixel become gray, wherever a sampler would look.
    stripes = np.zeros((96, 96), np.uint8)
    stripes[:, ::2] = 255
    pixels = read(saved(Image.fromarray(stripes), "PNG"), 8, 1)
    # At the border the filter is cut off, and has a stripe more of a kind.
    assert abs(pixels.astype(int) - 127.5).max() <= 4


def test_a_large_jpeg_is_close_to_the_same_png():
    ramp = np.linspace(0, 255, 1200).astype(np.uint8)
    image = Image.fromarray(np.tile(ramp, (900, 1)))
    png = read(saved(image, "PNG"), 32, 1).astype(int)
    jpeg = read(saved(image, "JPEG", quality=95), 32, 1).astype(int)
    assert abs(png - jpeg).max() <= 3


def test_an_animation_shows_its_first_frame():
    first, second = two_halves(), two_halves(BLUE, RED)
    for ending in ("GIF", "WEBP", "PNG", "TIFF"):
        raw = saved(
            first, ending, save_all=True, append_images=[second], lossless=True
        )
        np.testing.assert_array_equal(read(raw), np.asarray(first))


@pytest.mark.parametrize(
    "content", [b"", b"<html>404</html>", b"\x89PNG\r\n\x1a\n" + b"\0" * 40]
)
def test_what_is_no_image_is_named(tmp_path, content):
    file = tmp_path / "a.png"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png' to be a whole BMP"):
        read(file)
    with pytest.raises(ValueError, match=f"Expected {len(content)} bytes"):
        read(content)


@pytest.mark.parametrize("ending", ["PNG", "JPEG", "GIF", "BMP"])
def test_a_file_that_ends_early_is_named(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    raw = saved(Image.fromarray(noise), ending)
    file = tmp_path / "cut"
    file.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ValueError, match="cut' to be a whole"):
        read(file)


def test_scales():
    pixels = np.array([0, 51, 255], np.uint8)
    for scale, expected in {
        "0-1": [0, 0.2, 1],
        "0-255": [0, 51, 255],
        "-1-1": [-1, -0.6, 1],
    }.items():
        values = ImageFormat(1, 1, 1, scale).scaled(pixels)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected, atol=1e-7)
    assert ImageFormat(1, 1, 1, "none").scaled(pixels) is pixels
    with pytest.raises(ValueError, match=r"`scale=` out of \['0-1'"):
        ImageFormat(1, 1, 1, "0-2")
    with pytest.raises(ValueError, match="1, 3 or 4 channels"):
        ImageFormat(1, 1, 2)


def test_the_scale_of_an_input():
    def spec(low, high, dtype="float32", **more):
        return {"dtype": dtype, "range": [low, high], **more}

    assert scale_of(spec(0.1, 0.9)) == "0-1"
    assert scale_of(spec(-0.9, 0.9)) == "-1-1"
    assert scale_of(spec(0, 217)) == "0-255"
    assert scale_of(spec(0, 3, "uint8")) == "none"
    assert scale_of(spec(0.0, 0.9, scale="0-255")) == "0-255"
    assert scale_of(spec(-2.1, 2.6)) is None
    assert scale_of_range((0, 300)) is None
    with pytest.raises(ValueError, match="Prepare the input yourself"):
        ImageFormat.from_specs([{**spec(-2, 2), "shape": [None, 8, 8, 3]}])
    with pytest.raises(ValueError, match="Prepare the input yourself"):
        ImageFormat.from_specs([{**spec(0, 1), "shape": [None, 8]}])


def test_an_input_of_any_size_keeps_the_image_s_own():
    spec = {"shape": [None, None, None, 3], "dtype": "float32", "range": [0, 1]}
    images = ImageFormat.from_specs([spec])
    assert images.read(saved(two_halves(size=12), "PNG")).shape == (12, 12, 3)
