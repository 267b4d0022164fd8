"""Readers of data specs."""

import csv
import gzip
import os
from pathlib import Path

import numpy as np

from keras_cascade.datasets.array_splits import splits_from_arrays
from keras_cascade.datasets.numpy_files import read_numpy
from keras_cascade.utils.optional_package import optional_package

FASHION_MNIST_CLASSES = [
    "t-shirt/top", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
]  # fmt: skip
SYSTEM_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
IMAGE_ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".png"}


def digits(seed):
    """Loads scikit-learn's 1,797 digits of 8×8 pixels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x = (data.images / 16.0).astype("float32")[..., None]
    names = [str(c) for c in data.target_names]
    return splits_from_arrays("digits", x, data.target, names, seed)


def fashion_mnist(seed):
    """Loads Fashion-MNIST: the system's, Keras's or TensorFlow Datasets'."""
    arrays = _fashion_mnist_arrays()
    x_train, y_train, x_test, y_test = arrays
    return splits_from_arrays(
        "fashion_mnist",
        _as_images(x_train),
        y_train,
        FASHION_MNIST_CLASSES,
        seed,
        test=(_as_images(x_test), y_test),
    )


def tensorflow_dataset(name, seed):
    """Loads an image or text data set of TensorFlow Datasets by name."""
    tfds = optional_package("tensorflow_datasets", extra="tfds")
    builder = tfds.builder(name)
    builder.download_and_prepare()
    keys = builder.info.supervised_keys or _input_and_label(builder.info)
    if keys is None or "train" not in builder.info.splits:
        raise ValueError(
            f"tfds:{name} cannot be used as it is. Expected: a data set with "
            "a 'train' split and (input, label) keys, or one image or text "
            "and one class label. Received: splits "
            f"{sorted(builder.info.splits)}, features "
            f"{sorted(builder.info.features)}."
        )
    label_names = builder.info.features[keys[1]].names

    def arrays(split):
        rows = list(builder.as_dataset(split=split).as_numpy_iterator())
        x = np.stack([row[keys[0]] for row in rows])
        y = np.array([row[keys[1]] for row in rows])
        return (_as_images(x) if x.dtype == np.uint8 else x), y

    x, y = arrays("train")
    test = arrays("test") if "test" in builder.info.splits else None
    return splits_from_arrays(f"tfds:{name}", x, y, label_names, seed, test)


def image_folder(path, seed):
    """Loads images from one folder per class, or from `train/` and `test/`."""
    root = _existing(path, "dir", "a folder with one folder a class")
    own_test = (root / "train").is_dir() and (root / "test").is_dir()
    files, labels, names = _labelled_files(root / "train" if own_test else root)
    test = None
    if own_test:
        test_files, test_labels, test_names = _labelled_files(root / "test")
        if test_names != names:
            raise ValueError(
                f"dir:{path}: 'train' and 'test' must have the same class "
                f"folders. Received: {names} and {test_names}."
            )
        test = (test_files, test_labels)
    shape = _image_shape(files[0])

    def read(file):
        import tensorflow as tf

        image = tf.io.decode_image(
            tf.io.read_file(file), channels=shape[2], expand_animations=False
        )
        image = tf.image.resize(image, shape[:2])
        return tf.ensure_shape(image / 255.0, shape)

    return splits_from_arrays(
        f"dir:{path}", files, labels, names, seed, test=test, map_fn=read
    )


def npz(path, seed):
    """Loads `x` and `y`, or `x_train`, `y_train`, ..., from an .npz file."""
    file = _existing(path, "npz", "an .npz file")
    arrays = read_numpy(file, archive=True)
    test = None
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        x, y = arrays["x_train"], arrays["y_train"]
        test = (_as_images(arrays["x_test"]), arrays["y_test"])
    elif {"x", "y"} <= arrays.keys():
        x, y = arrays["x"], arrays["y"]
    else:
        raise ValueError(
            f"npz:{path}: expected arrays 'x' and 'y', or 'x_train', "
            "'y_train', 'x_test' and 'y_test'. Received: "
            f"{sorted(arrays)}."
        )
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(
            f"npz:{path}: expected 'y' to hold integer labels, one an "
            f"example. Received: shape {y.shape}, {y.dtype}."
        )
    if len(x) != len(y):
        raise ValueError(
            f"npz:{path}: expected as many inputs as labels. Received: "
            f"{len(x)} and {len(y)}."
        )
    if len(y) and y.min() < 0:
        raise ValueError(f"npz:{path}: expected labels from 0. Got {y.min()}.")
    names = [str(c) for c in range(int(y.max()) + 1 if len(y) else 0)]
    return splits_from_arrays(
        f"npz:{path}", _as_images(x), y, names, seed, test
    )


def text_csv(path, seed):
    """Loads a CSV file with the columns `text` and `label`."""
    file = _existing(path, "csv", "a CSV file")
    with open(file, newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if not {"text", "label"} <= set(reader.fieldnames or []):
            raise ValueError(
                f"csv:{path}: expected the columns 'text' and 'label'. "
                f"Received: {reader.fieldnames}."
            )
        rows = [(row["text"], row["label"]) for row in reader]
    names = sorted({label for _, label in rows})
    numbers = {name: number for number, name in enumerate(names)}
    x = np.array([text for text, _ in rows], dtype=object)
    y = np.array([numbers[label] for _, label in rows], dtype="int32")
    return splits_from_arrays(f"csv:{path}", x, y, names, seed)


def _input_and_label(info):
    """Keys of the single input and the single label, or `None`."""
    from tensorflow_datasets import features

    kinds = (features.Image, features.Text)
    named = dict(info.features.items())
    inputs = [key for key, one in named.items() if isinstance(one, kinds)]
    labels = [
        key
        for key, one in named.items()
        if isinstance(one, features.ClassLabel)
    ]
    alone = len(inputs) == len(labels) == 1
    return (inputs[0], labels[0]) if alone else None


def _fashion_mnist_arrays():
    if SYSTEM_FASHION_MNIST.is_dir():
        return tuple(
            _read_idx(SYSTEM_FASHION_MNIST / f"{part}-{kind}-ubyte.gz")
            for part in ("train", "t10k")
            for kind in ("images-idx3", "labels-idx1")
        )
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    cached = home / "datasets" / "fashion-mnist"
    if cached.is_dir():
        import keras

        (x, y), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
        return x, y, x_test, y_test
    try:
        tfds = optional_package("tensorflow_datasets", extra="tfds")
        train, test = tfds.as_numpy(
            tfds.load(
                "fashion_mnist",
                split=["train", "test"],
                batch_size=-1,
                as_supervised=True,
            )
        )
    except Exception as error:
        raise ValueError(
            "Fashion-MNIST was found neither in "
            f"'{SYSTEM_FASHION_MNIST}' nor in '{cached}', and TensorFlow "
            "Datasets could not download it "
            f"({type(error).__name__}: {str(error)[:200]}). Install Debian's "
            "package dataset-fashion-mnist, or use '--dataset digits'."
        ) from error
    return (*train, *test)


def _read_idx(file):
    """Reads an array in IDX format: two zeros, type 8, rank, shape, bytes."""
    raw = gzip.decompress(file.read_bytes())
    rank = raw[3]
    if raw[:3] != b"\x00\x00\x08" or rank not in (1, 3):
        raise ValueError(f"'{file}' is not an IDX file of unsigned bytes.")
    shape = np.frombuffer(raw, dtype=">i4", count=rank, offset=4)
    data = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * rank)
    return data.reshape(shape)


def _as_images(x):
    """uint8 pixels to float32 in [0, 1], with a channel; others as given."""
    if x.dtype == np.uint8:
        x = x.astype("float32") / 255.0
        return x[..., None] if x.ndim == 3 else x
    return x.astype("float32") if x.dtype == np.float64 else x


def _existing(path, scheme, expected):
    found = Path(path).expanduser()
    right_kind = found.is_dir() if scheme == "dir" else found.is_file()
    if not right_kind:
        raise ValueError(
            f"Data spec '{scheme}:{path}': expected {expected}. There is "
            "none at that path."
        )
    return found


def _labelled_files(root):
    names = sorted(p.name for p in root.iterdir() if p.is_dir())
    files, labels = [], []
    for label, name in enumerate(names):
        images = sorted(
            str(p)
            for p in (root / name).iterdir()
            if p.suffix.lower() in IMAGE_ENDINGS
        )
        files += images
        labels += [label] * len(images)
    if not files:
        raise ValueError(
            f"'{root}' holds no images. Expected: one folder a class, with "
            f"{sorted(IMAGE_ENDINGS)} files in it."
        )
    return np.array(files), np.array(labels, dtype="int32"), names


def _image_shape(file):
    from PIL import Image

    with Image.open(file) as image:
        channels = 1 if image.mode in ("1", "L", "I", "I;16") else 3
        return (image.height, image.width, channels)
