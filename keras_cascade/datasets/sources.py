"""Readers of data specs."""

import dataclasses
import gzip
import os
from pathlib import Path

import numpy as np

from keras_cascade.datasets.array_splits import splits_from_arrays
from keras_cascade.datasets.class_names import (
    class_name,
    label_indices,
    ordered_names,
)
from keras_cascade.datasets.image_folder import image_folder
from keras_cascade.datasets.numpy_files import read_numpy
from keras_cascade.datasets.reading_options import ReadingOptions
from keras_cascade.datasets.text_tables import parquet, text_csv
from keras_cascade.utils.image_format import scaled
from keras_cascade.utils.optional_package import optional_package

FASHION_MNIST_CLASSES = [
    "t-shirt/top", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
]  # fmt: skip
SYSTEM_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
#: Splits of TensorFlow Datasets that are reported on, the first with labels.
TFDS_TEST_SPLITS = ("test", "validation")

__all__ = [
    "digits",
    "fashion_mnist",
    "image_folder",
    "npz",
    "parquet",
    "tensorflow_dataset",
    "text_csv",
]


def digits(seed, options=None):
    """Loads scikit-learn's 1,797 digits of 8×8 pixels."""
    from sklearn.datasets import load_digits

    options = options or ReadingOptions()
    data = load_digits()
    x = (data.images / 16.0).astype("float32")[..., None]
    if options.scale != "0-1":
        x = scaled(np.rint(255 * x).astype("uint8"), options.scale)
    names = [str(c) for c in data.target_names]
    splits = splits_from_arrays("digits", x, data.target, names, seed)
    return dataclasses.replace(splits, scale=options.scale)


def fashion_mnist(seed, options=None):
    """Loads Fashion-MNIST: the system's, Keras's or TensorFlow Datasets'."""
    options = options or ReadingOptions()
    arrays = _fashion_mnist_arrays()
    x_train, y_train, x_test, y_test = arrays
    return splits_from_arrays(
        "fashion_mnist",
        _as_images(x_train),
        y_train,
        FASHION_MNIST_CLASSES,
        seed,
        test=(_as_images(x_test), y_test),
        scale=options.scale,
    )


def tensorflow_dataset(name, seed, options=None):
    """Loads an image or text data set of TensorFlow Datasets by name."""
    options = options or ReadingOptions()
    spec = f"tfds:{name}"
    tfds = optional_package("tensorflow_datasets", extra="tfds")
    builder = tfds.builder(name)
    builder.download_and_prepare()
    keys = builder.info.supervised_keys or _input_and_label(builder.info)
    if keys is None or "train" not in builder.info.splits:
        raise ValueError(
            f"{spec} cannot be used as it is. Expected: a data set with "
            "a 'train' split and (input, label) keys, or one image or text "
            "and one class label. Received: splits "
            f"{sorted(builder.info.splits)}, features "
            f"{sorted(builder.info.features)}."
        )
    images = _tfds_images(builder, keys, options)

    def rows(split):
        for row in builder.as_dataset(split=split).as_numpy_iterator():
            value = row[keys[0]]
            if images is not None:
                value = images.from_image(_as_pillow(value))
            yield value, row[keys[1]]

    def arrays(split):
        inputs, labels = zip(*rows(split), strict=True)
        labels = np.array(labels)
        if labels.ndim != 1 or labels.dtype.kind not in "biu":
            raise ValueError(
                f"{spec} cannot be used as it is. Expected: one class per "
                "example, as an integer. Received: labels of shape "
                f"{labels.shape[1:]}, {labels.dtype}."
            )
        x = np.stack(inputs)
        return (_as_images(x) if images is None else x), labels

    x, y = arrays("train")
    if y.min() < 0:
        raise ValueError(
            f"{spec} cannot be used as it is. Expected: labels from 0. "
            f"Received: {y.min()} in the training split, which has no labels."
        )
    label_names = getattr(builder.info.features[keys[1]], "names", None)
    if label_names is None:
        label_names = _index_names(spec, y)
    test = None
    for split in TFDS_TEST_SPLITS:
        if test is None and split in builder.info.splits:
            test = arrays(split)
            if test[1].min() < 0:  # a contest's, whose labels are secret
                test = None
    if test is not None:
        _check_test_labels(spec, test[1], len(label_names))
    return splits_from_arrays(
        spec, x, y, label_names, seed, test, scale=options.scale
    )


def npz(path, seed, options=None):
    """Loads `x` and `y`, or `x_train`, `y_train`, ..., from an .npz file."""
    options = options or ReadingOptions()
    spec = f"npz:{path}"
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(
            f"Data spec '{spec}': expected an .npz file. There is none at "
            "that path."
        )
    arrays = read_numpy(file, archive=True)
    if {"x_train", "y_train"} <= arrays.keys():
        x, y = arrays["x_train"], arrays["y_train"]
    elif {"x", "y"} <= arrays.keys():
        x, y = arrays["x"], arrays["y"]
    else:
        raise ValueError(
            f"{spec}: expected arrays 'x' and 'y', or 'x_train', "
            "'y_train', 'x_test' and 'y_test'. Received: "
            f"{sorted(arrays)}."
        )
    x = _checked_inputs(spec, "x", x)
    y = _checked_labels(spec, "y", x, y)
    test = None
    if {"x_train", "x_test", "y_test"} <= arrays.keys():
        x_test, y_test = arrays["x_test"], arrays["y_test"]
        x_test = _checked_inputs(spec, "x_test", x_test)
        y_test = _checked_labels(spec, "y_test", x_test, y_test)
        if x_test.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"{spec}: expected inputs of one shape. Received: "
                f"{x.shape[1:]} to train and {x_test.shape[1:]} to test."
            )
        test = (_as_images(x_test), y_test)
    if y.dtype.kind == "U":
        names = ordered_names(y.tolist())
        if test is not None:
            unknown = sorted(set(test[1].tolist()) - set(names))
            if unknown:
                raise ValueError(
                    f"{spec}: expected test labels out of the training "
                    f"labels. Received: {unknown[:10]}."
                )
            test = (test[0], label_indices(test[1].tolist(), names))
        y = label_indices(y.tolist(), names)
    else:
        names = _index_names(spec, y)
        if test is not None:
            _check_test_labels(spec, test[1], len(names))
    return splits_from_arrays(
        spec, _as_images(x), y, names, seed, test, scale=options.scale
    )


def _checked_inputs(spec, name, x):
    """Inputs in the byte order of this machine, or an error."""
    if x.dtype.kind not in "biufSU" or x.ndim == 0:
        raise ValueError(
            f"{spec}: expected '{name}' to hold numbers or texts, one row per "
            f"example. Received: shape {x.shape}, {x.dtype}."
        )
    return x.astype(x.dtype.newbyteorder("="), copy=False)


def _checked_labels(spec, name, x, y):
    """Labels as integers or names, one per input, or an error."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:  # as Keras's CIFAR has them
        y = y[:, 0]
    if y.ndim == 2 and y.dtype.kind in "biuf" and np.isin(y, (0, 1)).all():
        kind = "one-hot" if (y.sum(axis=1) == 1).all() else "multi-hot"
        remedy = (
            "Store `y.argmax(axis=-1)`."
            if kind == "one-hot"
            else "Examples of several classes are not supported by the "
            "commands; in Python, `Cascade(task='multilabel')` takes them."
        )
        raise ValueError(
            f"{spec}: expected '{name}' to hold integer labels, one an "
            f"example. Received: shape {y.shape}, {kind}. {remedy}"
        )
    if y.dtype.kind == "f" and np.isnan(y).any():
        raise ValueError(
            f"{spec}: expected '{name}' to hold a label per example. Received "
            f"NaN in {int(np.isnan(y).sum())} of {len(y)}. Leave them out."
        )
    if y.ndim == 1 and y.dtype.kind == "f" and (y == np.rint(y)).all():
        y = y.astype("int64")
    if y.ndim != 1 or y.dtype.kind not in "biuUS":
        raise ValueError(
            f"{spec}: expected '{name}' to hold integer labels, one an "
            f"example. Received: shape {y.shape}, {y.dtype}. Numbers to "
            "predict, as in a regression, are not supported by the commands; "
            "in Python, `Cascade(task=keras_cascade.tasks.Regression(...))` "
            "takes them."
        )
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8")
    if y.dtype.kind == "U":
        y = np.array([class_name(one) for one in y.tolist()])
    if len(x) != len(y):
        raise ValueError(
            f"{spec}: expected as many inputs as labels. Received: "
            f"{len(x)} and {len(y)} ('{name}')."
        )
    if len(y) and y.dtype.kind in "iu" and y.min() < 0:
        raise ValueError(f"{spec}: expected labels from 0. Got {y.min()}.")
    return y.astype("int64") if y.dtype.kind in "biu" else y


def _index_names(spec, y):
    """Class names of labels that are the numbers from 0."""
    classes = int(y.max()) + 1 if len(y) else 0
    counts = np.bincount(y) if classes <= len(y) else np.zeros(1, int)
    if len(y) and not counts.all():
        unused = np.flatnonzero(counts == 0)[:10].tolist()
        unused = f"none of {unused}" if classes <= len(y) else "others unused"
        raise ValueError(
            f"{spec}: expected labels from 0 to the number of classes less "
            f"one. Received: labels up to {classes - 1} on {len(y)} "
            f"examples, {unused}. Number the classes from 0, such as with "
            "`numpy.unique(y, return_inverse=True)`."
        )
    return [str(number) for number in range(classes)]


def _check_test_labels(spec, y, classes):
    if len(y) and not 0 <= y.min() <= y.max() < classes:
        raise ValueError(
            f"{spec}: expected test labels from 0 to {classes - 1}, as in "
            f"the training split. Received: {y.min()} to {y.max()}."
        )


def _tfds_images(builder, keys, options):
    """`ImageFormat` of a data set of images, or `None` for anything else."""
    from tensorflow_datasets import features

    feature = builder.info.features[keys[0]]
    if not isinstance(feature, features.Image):
        return None
    shape = feature.shape
    if None not in shape and options.image_size is options.color is None:
        return None
    sizes, gray = {shape[:2]}, shape[2] == 1
    if None in shape[:2]:
        sizes = {
            row[keys[0]].shape[:2]
            for row in builder.as_dataset(split="train").as_numpy_iterator()
        }
    return options.image_format(sizes, gray)


def _as_pillow(pixels):
    from PIL import Image

    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


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
    """Bytes with a channel, float32 for float64; others as given."""
    if x.dtype == np.uint8:
        return x[..., None] if x.ndim == 3 else x
    return x.astype("float32") if x.dtype == np.float64 else x
