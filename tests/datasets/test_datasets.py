"""Data specs: read right, split disjointly, refused with one sentence."""

import gzip

import numpy as np
import pytest
from PIL import Image

import keras_cascade as kc
from keras_cascade.datasets import fingerprint, sources


def arrays(part):
    x, y = zip(*part.as_numpy_iterator(), strict=True)
    return np.stack(x), np.array(y)


def check_splits(splits, classes):
    """Disjoint, with every class in every split, as large as stated."""
    assert splits.classes == classes
    for part in ("train", "calibration", "test"):
        _, y = arrays(getattr(splits, part))
        assert len(y) == splits.sizes[part]
        assert set(y) == set(range(classes))


def test_digits():
    splits = kc.datasets.load("digits")
    check_splits(splits, 10)
    parts = [arrays(getattr(splits, p)) for p in splits.sizes]
    x = np.concatenate([x for x, _ in parts])
    y = np.concatenate([y for _, y in parts])
    from sklearn.datasets import load_digits

    original = load_digits()
    assert splits.input_shape == (8, 8, 1)
    assert x.dtype == np.float32
    # Together the splits are the data set: nothing lost, nothing twice.
    ours = np.column_stack([x.reshape(len(x), -1) * 16, y])
    theirs = np.column_stack([original.data, original.target])
    order = [np.lexsort(a.T) for a in (ours, theirs)]
    np.testing.assert_allclose(ours[order[0]], theirs[order[1]], atol=1e-5)


def test_the_seed_decides_the_split():
    first, again, other = (
        arrays(kc.datasets.load("digits", seed).test)[1] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_split_as_arrays(tmp_path):
    splits = kc.datasets.load("digits")
    x, y = splits.arrays("test")
    for found, expected in zip((x, y), arrays(splits.test), strict=True):
        np.testing.assert_array_equal(found, expected)
    first, _ = splits.arrays("test", 7)
    np.testing.assert_array_equal(first, x[:7])
    assert len(splits.arrays("test", 10_000)[1]) == splits.sizes["test"]
    with pytest.raises(ValueError, match="'validation'"):
        splits.arrays("validation")
    with pytest.raises(ValueError, match="examples >= 1"):
        splits.arrays("test", 0)
    file = tmp_path / "texts.csv"
    rows = [f"Café {n},{'ab'[n % 2]}" for n in range(40)]
    file.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    texts, labels = kc.datasets.load(f"csv:{file}").arrays("train")
    assert len(texts) == len(labels) == 20
    assert {
        f"{text},{'ab'[label]}"
        for text, label in zip(texts, labels, strict=True)
    } <= set(rows)


def write_idx(file, array):
    header = bytes([0, 0, 8, array.ndim])
    sizes = np.array(array.shape, ">i4").tobytes()
    file.write_bytes(gzip.compress(header + sizes + array.tobytes()))


def test_fashion_mnist_from_the_system(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    pixels = {}
    for part, rows in (("train", 80), ("t10k", 40)):
        pixels[part] = rng.integers(0, 256, (rows, 28, 28)).astype(np.uint8)
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", pixels[part])
        labels = (np.arange(rows) % 10).astype(np.uint8)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", labels)
    monkeypatch.setattr(sources, "SYSTEM_FASHION_MNIST", tmp_path)
    splits = kc.datasets.load("fashion_mnist")
    assert splits.sizes == {"train": 60, "calibration": 20, "test": 40}
    x, y = arrays(splits.test)
    np.testing.assert_allclose(x[..., 0], pixels["t10k"] / 255.0, atol=1e-6)
    assert y[:11].tolist() == [*range(10), 0]
    assert splits.class_names[9] == "ankle boot"


def test_fashion_mnist_that_is_nowhere(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def no_network(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(sources, "SYSTEM_FASHION_MNIST", tmp_path / "none")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(tfds, "load", no_network)
    with pytest.raises(ValueError, match=r"found neither.*no network"):
        kc.datasets.load("fashion_mnist")


def test_tensorflow_datasets(monkeypatch, tmp_path):
    import tensorflow_datasets as tfds

    class TinySquares(tfds.core.GeneratorBasedBuilder):
        """Black and white squares."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(5, 5, 1)),
                        "label": tfds.features.ClassLabel(
                            names=["black", "white"]
                        ),
                    }
                ),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate(40), "test": self._generate(8)}

        def _generate(self, rows):
            for i in range(rows):
                pixels = np.full((5, 5, 1), 255 * (i % 2), np.uint8)
                yield i, {"image": pixels, "label": i % 2}

        def _generate_examples(self):
            raise NotImplementedError

    monkeypatch.setattr(
        "tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path)
    )
    splits = kc.datasets.load("tfds:tiny_squares")
    assert splits.class_names == ["black", "white"]
    assert splits.sizes == {"train": 30, "calibration": 10, "test": 8}
    assert splits.input_shape == (5, 5, 1)
    x, y = arrays(splits.train)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[:, 0, 0, 0], y)


def test_a_tensorflow_dataset_without_supervised_keys(monkeypatch, tmp_path):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def store(name, **features):
        columns = {
            "image": np.zeros((40, 5, 5, 1), "uint8"),
            "label": np.arange(40) % 2,
            "other": np.arange(40) % 2,
        }
        shown = {key: columns[key] for key in features}
        rows = tf.data.Dataset.from_tensor_slices(shown)
        tfds.dataset_builders.store_as_tfds_dataset(
            name, "1.0.0", features=tfds.features.FeaturesDict(features),
            split_datasets={"train": rows}, data_dir=tmp_path,
        )  # fmt: skip

    monkeypatch.setattr(
        "tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path)
    )
    image = tfds.features.Image(shape=(5, 5, 1))
    label = tfds.features.ClassLabel(names=["black", "white"])
    store("plain_squares", image=image, label=label)
    splits = kc.datasets.load("tfds:plain_squares")
    assert splits.class_names == ["black", "white"]
    assert splits.sizes == {"train": 20, "calibration": 10, "test": 10}
    # Which of two labels is meant, nobody can tell.
    store("two_labels", image=image, label=label, other=label)
    with pytest.raises(ValueError, match=r"one class label.*'other'"):
        kc.datasets.load("tfds:two_labels")


def write_images(root, rows=8, mode="RGB", seed=0):
    rng = np.random.default_rng(seed)
    for number, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(rows):
            pixels = rng.integers(0, 256, (5, 7, 3)).astype(np.uint8)
            pixels[0, 0] = 255 * number
            Image.fromarray(pixels).convert(mode).save(root / name / f"{i}.png")


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_a_folder_a_class(tmp_path, mode, channels):
    write_images(tmp_path, mode=mode)
    splits = kc.datasets.load(f"dir:{tmp_path}")
    check_splits(splits, 2)
    assert splits.class_names == ["cat", "dog"]
    x, y = arrays(splits.train)
    assert x.shape == (8, 5, 7, channels)
    np.testing.assert_allclose(x[:, 0, 0, 0], y)


def test_folders_with_their_own_test_split(tmp_path):
    write_images(tmp_path / "train")
    write_images(tmp_path / "test", rows=3, seed=1)
    splits = kc.datasets.load(f"dir:{tmp_path}")
    assert splits.sizes == {"train": 12, "calibration": 4, "test": 6}
    assert "own test split" in splits.how
    (tmp_path / "test" / "extra").mkdir()
    with pytest.raises(ValueError, match="same class folders"):
        kc.datasets.load(f"dir:{tmp_path}")


def test_npz(tmp_path):
    y = np.arange(40) % 4
    np.savez(tmp_path / "a.npz", x=np.ones((40, 3)), y=y)
    splits = kc.datasets.load(f"npz:{tmp_path / 'a.npz'}")
    check_splits(splits, 4)
    assert splits.train.element_spec[0].dtype.name == "float32"
    np.savez(
        tmp_path / "b.npz",
        x_train=np.full((40, 4, 4), 255, np.uint8),
        y_train=y,
        x_test=np.zeros((8, 4, 4), np.uint8),
        y_test=y[:8],
    )
    splits = kc.datasets.load(f"npz:{tmp_path / 'b.npz'}")
    assert splits.input_shape == (4, 4, 1)
    assert splits.sizes["test"] == 8
    assert arrays(splits.train)[0].max() == 1.0


def test_csv(tmp_path):
    rows = "".join(f'"text, {i} é",{"ab"[i % 2]}\n' for i in range(16))
    (tmp_path / "a.csv").write_text("text,label\n" + rows, encoding="utf-8")
    splits = kc.datasets.load(f"csv:{tmp_path / 'a.csv'}")
    check_splits(splits, 2)
    x, y = arrays(splits.train)
    for text, label in zip(x, y, strict=True):
        number = int(text.decode().removeprefix("text, ").removesuffix(" é"))
        assert number % 2 == label


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "Not a known data spec"),
        ("digits:3", "Not a known data spec"),
        ("dir:", "Not a known data spec"),
        ("", "Not a known data spec"),
        ("dir:nowhere", "expected a folder with one folder a class"),
        ("npz:nowhere", "expected an .npz file"),
        ("csv:nowhere", "expected a CSV file"),
    ],
)
def test_bad_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        kc.datasets.load(spec)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": np.ones(3)}, "expected arrays 'x' and 'y'"),
        ({"x": np.ones((9, 2)), "y": np.eye(9)}, "integer labels"),
        ({"x": np.ones((9, 2)), "y": np.zeros(8, int)}, "as many inputs"),
        ({"x": np.ones((0, 2)), "y": np.zeros(0, int)}, "no examples"),
        ({"x": np.ones((9, 2)), "y": np.zeros(9, int)}, "two classes"),
        ({"x": np.ones((9, 2)), "y": np.arange(9)}, "at least 4 examples"),
        ({"x": np.ones((9, 2)), "y": -np.ones(9, int)}, "labels from 0"),
    ],
)
def test_bad_npz(tmp_path, content, message):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(ValueError, match=message):
        kc.datasets.load(f"npz:{tmp_path / 'a.npz'}")


def test_bad_folders_and_csv(tmp_path):
    (tmp_path / "a.csv").write_text("sentence,intent\nx,y\n")
    with pytest.raises(ValueError, match="columns 'text' and 'label'"):
        kc.datasets.load(f"csv:{tmp_path / 'a.csv'}")
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        kc.datasets.load(f"dir:{tmp_path / 'images'}")


def test_distinct_share_of_a_full_sketch(monkeypatch):
    # 3000 examples, each twice, in a sketch of 1000 hashes: about a half,
    # with a standard error of about 1 / sqrt(1000) = 3 % of it.
    monkeypatch.setattr(fingerprint, "SKETCH_SIZE", 1000)
    seen = fingerprint.Fingerprint()
    x = np.random.default_rng(0).random((3000, 2))
    seen.update(np.concatenate([x, x]))
    assert seen.distinct_share() == pytest.approx(0.5, rel=0.1)
    assert fingerprint.Fingerprint().distinct_share() == 1.0
