"""`npz:` and `tfds:` specs: odd labels, sizes, and tests without labels."""

import numpy as np
import pytest

import keras_cascade as kc

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (40, 8, 8, 3)).astype("uint8")
OTHER = RNG.integers(0, 256, (12, 8, 8, 3)).astype("uint8")
Y = np.arange(40) % 4


@pytest.fixture
def npz(tmp_path):
    """A function that writes arrays to a file and returns its spec."""

    def write(**arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        return f"npz:{tmp_path / 'a.npz'}"

    return write


@pytest.mark.parametrize(
    "labels", [Y[:, None], Y.astype("float64"), Y.astype("uint8")]
)
def test_forms_of_integer_labels(npz, labels):
    spec = npz(x_train=X, y_train=labels, x_test=OTHER, y_test=labels[:12])
    splits = kc.datasets.load(spec)
    assert splits.class_names == ["0", "1", "2", "3"]
    assert splits.arrays("test")[1].tolist() == Y[:12].tolist()


def test_names_as_labels(npz):
    names = np.array(["9", "10", "1", "2"])
    splits = kc.datasets.load(npz(x=X, y=names[Y]))
    assert splits.class_names == ["1", "2", "9", "10"]
    expected = {x.tobytes(): names[y] for x, y in zip(X, Y, strict=True)}
    raw = kc.datasets.load(npz(x=X, y=names[Y]), scale="none")
    x, y = raw.arrays("train")
    for row, label in zip(x, y, strict=True):
        assert expected[row.tobytes()] == raw.class_names[label]
    with pytest.raises(ValueError, match=r"Received: \['cow'\]"):
        kc.datasets.load(
            npz(
                x_train=X, y_train=names[Y], x_test=OTHER,
                y_test=np.array(["cow"] * 12),
            )
        )  # fmt: skip


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y_test": Y[:12] + 3}, "test labels from 0 to 3.*Received: 3 to 6"),
        ({"y_test": Y[:10]}, "as many inputs as labels. Received: 12 and 10"),
        ({"x_test": OTHER[:, :4]}, r"\(8, 8, 3\) to train and \(4, 8, 3\)"),
        (
            {"y_train": np.array([11, 512, 40_001, 90_000_000])[Y]},
            "labels up to 90000000 on 40 examples.*return_inverse",
        ),
        ({"y_train": np.eye(4, dtype=int)[Y]}, "one-hot.*argmax"),
        ({"y_train": np.ones((40, 4), int)}, "multi-hot.*several classes"),
        ({"y_train": Y + 0.5}, "regression, are not supported"),
        ({"y_train": Y + 1.0}, r"none of \[0\].*return_inverse"),
        ({"y_train": Y + 2 * (Y > 1)}, r"none of \[2, 3\].*return_inverse"),
        ({"y_train": np.where(Y, Y, np.nan)}, "NaN in 10 of 40"),
        ({"x_train": X.astype(complex)}, "numbers or texts.*complex128"),
        ({"x_train": np.zeros(40, "f4,f4")}, "to hold numbers or texts"),
    ],
)
def test_other_labels_are_named(npz, arrays, message):
    whole = {"x_train": X, "y_train": Y, "x_test": OTHER, "y_test": Y[:12]}
    spec = npz(**{**whole, **arrays})
    with pytest.raises(ValueError, match=message) as error:
        kc.datasets.load(spec)
    assert spec in str(error.value)


@pytest.mark.parametrize(
    ("scale", "low", "high"),
    [("0-1", 0, 1), ("0-255", 0, 255), ("-1-1", -1, 1), ("none", 0, 255)],
)
def test_scales_of_stored_bytes(npz, scale, low, high):
    splits = kc.datasets.load(npz(x=X, y=Y), scale=scale)
    x, _ = splits.arrays("train")
    assert x.dtype == (np.uint8 if scale == "none" else np.float32)
    assert (x.min(), x.max()) == (low, high)
    assert splits.scale == scale
    # To the last bit what NumPy makes of all bytes.
    if scale == "0-1":
        found = np.unique(x)
        assert np.isin(found, np.arange(256, dtype="float32") / 255).all()
    # Floats are used as they are.
    floats = kc.datasets.load(npz(x=X.astype("float32"), y=Y), scale=scale)
    assert floats.scale is None and floats.arrays("train")[0].max() == 255


@pytest.fixture
def tfds(tmp_path, monkeypatch):
    """A function that stores a data set and returns its spec."""
    import tensorflow as tf
    import tensorflow_datasets as datasets

    monkeypatch.setattr(
        "tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path)
    )

    def store(name, features, splits):
        types = {key: one.dtype for key, one in features.items()}
        shapes = {key: one.shape for key, one in features.items()}
        datasets.dataset_builders.store_as_tfds_dataset(
            name,
            "1.0.0",
            features=datasets.features.FeaturesDict(features),
            split_datasets={
                split: tf.data.Dataset.from_generator(
                    lambda rows=rows: iter(rows),
                    output_signature={
                        key: tf.TensorSpec(shapes[key], types[key])
                        for key in types
                    },
                )
                for split, rows in splits.items()
            },
            data_dir=tmp_path,
        )
        return f"tfds:{name}"

    return store


def test_images_of_several_sizes(tfds):
    import tensorflow_datasets

    features = {
        "image": tensorflow_datasets.features.Image(shape=(None, None, 3)),
        "label": tensorflow_datasets.features.ClassLabel(names=["a", "b"]),
    }
    rows = [
        {"image": RNG.integers(0, 256, (20 + i % 5, 30, 3), "uint8"),
         "label": i % 2}
        for i in range(24)
    ]  # fmt: skip
    spec = tfds("several_sizes", features, {"train": rows})
    assert kc.datasets.load(spec).input_shape == (96, 96, 3)
    splits = kc.datasets.load(
        spec, image_size=(8, 10), color="grayscale", scale="0-255"
    )
    assert splits.input_shape == (8, 10, 1)
    assert splits.arrays("train")[0].max() > 1


def test_a_test_split_without_labels_is_not_used(tfds):
    import tensorflow_datasets

    features = {
        "text": tensorflow_datasets.features.Text(),
        "label": tensorflow_datasets.features.ClassLabel(names=["a", "b"]),
    }

    def rows(split, label=None):
        return [
            {
                "text": f"text {i} {split}",
                "label": label if label else i % 2,
            }
            for i in range(24)
        ]

    secret = rows("test", -1)
    spec = tfds("secret", features, {"train": rows("train"), "test": secret})
    splits = kc.datasets.load(spec)
    assert sum(splits.sizes.values()) == 24
    spec = tfds(
        "secret_too",
        features,
        {
            "train": rows("train"),
            "test": secret,
            "validation": rows("validation"),
        },
    )
    splits = kc.datasets.load(spec)
    x, y = splits.arrays("test")
    assert all(text.endswith("validation") for text in x)
    assert set(y.tolist()) == {0, 1}


def test_names_without_the_spaces_around_them(npz):
    names = np.array(["a ", "b", " a", "b"])
    assert kc.datasets.load(npz(x=X, y=names[Y])).class_names == ["a", "b"]


@pytest.mark.parametrize("dtype", [">f8", "<f8", ">f4"])
def test_numbers_arrive_as_float32_of_this_machine(npz, dtype):
    x = np.random.default_rng(0).normal(size=(40, 3))
    splits = kc.datasets.load(npz(x=x.astype(dtype), y=Y))
    rows = np.concatenate([splits.arrays(part)[0] for part in splits.sizes])
    assert rows.dtype == np.dtype("float32") and rows.dtype.isnative
    assert {row.tobytes() for row in rows} == {
        row.tobytes() for row in x.astype("float32")
    }


def test_arrays_of_python_objects_are_refused(npz):
    """To load them could run any code."""
    with pytest.raises(ValueError, match=r"a\.npz.*Python objects.*astype"):
        kc.datasets.load(npz(x=X, y=np.array(list("abcd"), object)[Y]))
