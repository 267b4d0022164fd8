"""Splits from arrays in memory."""

import numpy as np

from keras_cascade.datasets.fingerprint import example_hashes
from keras_cascade.datasets.splits import Splits
from keras_cascade.utils.image_format import scaled

CALIBRATION_SHARE = 0.25
TEST_SHARE = 0.25
#: Calibration examples beside a data set's own test split, at most, where
#: there are no more classes.
MOST_CALIBRATION = 10_000
#: Examples of a class, at least.
FEWEST = 4
#: Rows among which the training examples are shuffled, and their bytes.
SHUFFLE_BUFFER = 10_000
SHUFFLE_BYTES = 256 * 1024 * 1024
#: Rows that are read or scaled at once.
PARALLEL_READERS = 4


def stratified_parts(labels, shares, seed, groups=None):
    """Indices of disjoint parts, stratified by class.

    Args:
        labels: integer array of shape `(examples,)`.
        shares: dict of part name to share; what is left over goes to
            `"train"`.
        seed: int.
        groups: array of shape `(examples,)`. Examples of one group stay in
            one part; shares are then of groups, and a group counts as its
            first example's class. Defaults to `None`: each is its own group.

    Returns:
        Dict of part name (and `"train"`) to shuffled index array.
    """
    from sklearn.model_selection import train_test_split

    members = None
    if groups is not None:
        _, first, group = np.unique(
            groups, return_index=True, return_inverse=True
        )
        if len(first) < len(groups):
            # Groups in the order of their first examples.
            rank = np.argsort(np.argsort(first))
            order = np.argsort(rank[group], kind="stable")
            starts = np.cumsum(np.bincount(rank[group]))[:-1]
            members = np.split(order, starts)
            labels = labels[np.sort(first)]
    rest = np.arange(len(labels))
    parts = {}
    for name, share in shares.items():
        size = round(share * len(labels))
        rest, parts[name] = train_test_split(
            rest, test_size=size, stratify=labels[rest], random_state=seed
        )
    parts["train"] = rest
    if members is not None:
        random = np.random.default_rng(seed)
        parts = {
            name: random.permutation(
                np.concatenate([members[one] for one in index])
            )
            for name, index in parts.items()
        }
    return parts


def stratified_folds(labels, folds, seed):
    """Yields `(inside, outside)` index arrays; every row is outside once.

    Args:
        labels: integer array of shape `(examples,)`.
        folds: int >= 2.
        seed: int.
    """
    from sklearn.model_selection import StratifiedKFold

    cut = StratifiedKFold(folds, shuffle=True, random_state=seed)
    yield from cut.split(np.zeros(len(labels)), labels)


def splits_from_arrays(
    name,
    x,
    y,
    class_names,
    seed=0,
    test=None,
    map_fn=None,
    scale=None,
    groups=None,
    test_groups=None,
):
    """Splits arrays into train, calibration and test, by class.

    Examples of equal content stay in one split.

    Args:
        name: str, the data spec.
        x: array of inputs (or of file names, with `map_fn`). Bytes are
            images, which `scale` scales.
        y: integer array of labels.
        class_names: list of str, in label order.
        seed: int. The same seed gives the same splits. Defaults to `0`.
        test: optional `(x, y)` that comes as a test split already. Without
            it a quarter becomes calibration and a quarter test data.
        map_fn: optional TensorFlow function from an element of `x` to an
            input.
        scale: str, a key of `SCALES`, or `None` for data that is used as it
            is. Defaults to `None`.
        groups: array that is equal for examples of equal content. Defaults to
            `None`: the content of `x`.
        test_groups: the same for the test split.

    Returns:
        `Splits`.
    """
    y = np.asarray(y, dtype="int32")
    _check_counts(name, y, class_names)
    groups = example_hashes(x) if groups is None else groups
    shares = {"calibration": CALIBRATION_SHARE}
    how = (
        "a quarter of the examples for calibration and a quarter for test, "
        f"by class, seed {seed}"
    )
    if test is None:
        shares["test"] = TEST_SHARE
    else:
        how = (
            "the data set's own test split; calibration held out of its "
            f"training split, by class, seed {seed}"
        )
        if test_groups is None:
            test_groups = example_hashes(test[0])
        new = ~np.isin(groups, test_groups)
        if not new.all() and _can_be_split(y[new], len(class_names)):
            x, y, groups = x[new], y[new], groups[new]
            how += (
                f"; {np.count_nonzero(~new)} that the test split holds are "
                "left out"
            )
        # Every class is in it, however many there are.
        most = max(MOST_CALIBRATION, len(class_names))
        shares["calibration"] = min(CALIBRATION_SHARE, most / len(y))
    _, first = np.unique(groups, return_index=True)
    if len(first) == len(groups):
        groups = None
    elif _can_be_split(y[first], len(class_names)):
        how += (
            f"; {len(groups) - len(first)} repeated inputs are in the split "
            "of their first"
        )
    else:
        groups = None
        how += "; equal examples are in several splits, for want of others"
    parts = stratified_parts(y, shares, seed, groups)
    arrays = {part: (x[index], y[index]) for part, index in parts.items()}
    if test is not None:
        arrays["test"] = (test[0], np.asarray(test[1], dtype="int32"))
    bytes_as_rows = None
    if scale is not None and (map_fn is not None or x.dtype == np.uint8):
        bytes_as_rows = _scaling(scale)
    else:
        scale = None

    def dataset(part, shuffle=False):
        import tensorflow as tf

        examples = tf.data.Dataset.from_tensor_slices(arrays[part])
        if shuffle:
            # Before images are read or scaled: names and bytes are small.
            examples = examples.shuffle(_shuffle_buffer(arrays[part][0]))
        for step in (map_fn, bytes_as_rows):
            if step is not None:
                examples = examples.map(
                    lambda one, label, step=step: (step(one), label),
                    num_parallel_calls=PARALLEL_READERS,
                )
        return examples

    return Splits(
        name=name,
        train=dataset("train"),
        calibration=dataset("calibration"),
        test=dataset("test"),
        class_names=[str(c) for c in class_names],
        sizes={
            part: len(arrays[part][1])
            for part in ("train", "calibration", "test")
        },
        how=how,
        scale=scale,
        shuffled=dataset("train", shuffle=True),
    )


def _scaling(scale):
    """TensorFlow function from bytes to the values of a scale, or `None`.

    It looks values up: TensorFlow's own division may differ from NumPy's in
    the last bit.
    """
    if scale == "none":
        return None
    table = scaled(np.arange(256, dtype="uint8"), scale)

    def read(row):
        import tensorflow as tf

        return tf.gather(table, tf.cast(row, tf.int32))

    return read


def _shuffle_buffer(x):
    row_bytes = max(1, x.nbytes // len(x))
    return max(1, min(len(x), SHUFFLE_BUFFER, SHUFFLE_BYTES // row_bytes))


def _can_be_split(y, classes):
    return np.bincount(y, minlength=classes).min() >= FEWEST


def _check_counts(name, y, class_names):
    if len(y) == 0:
        raise ValueError(f"Data spec '{name}' holds no examples.")
    counts = np.bincount(y, minlength=len(class_names))
    if len(class_names) < 2:
        raise ValueError(
            f"Data spec '{name}' needs at least two classes. Received: "
            f"{list(class_names)}."
        )
    scarce = [str(class_names[i]) for i in np.flatnonzero(counts < FEWEST)]
    if scarce:
        message = (
            f"Data spec '{name}' needs at least {FEWEST} examples of every "
            f"class, to split them. Too few in: {scarce[:10]}."
        )
        if len(scarce) > len(y) / 2:
            message += (
                " Nearly every example has a label of its own: numbers to "
                "predict, as in a regression, and identifiers are no classes."
            )
        raise ValueError(message)
