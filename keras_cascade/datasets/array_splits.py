"""Splits from arrays in memory."""

import numpy as np

from keras_cascade.datasets.fingerprint import example_hashes
from keras_cascade.datasets.splits import Splits

CALIBRATION_SHARE = 0.25
TEST_SHARE = 0.25


def stratified_parts(labels, shares, seed):
    """Indices of disjoint parts, stratified by class.

    Args:
        labels: integer array of shape `(examples,)`.
        shares: dict of part name to share; what is left over goes to
            `"train"`.
        seed: int.

    Returns:
        Dict of part name (and `"train"`) to shuffled index array.
    """
    from sklearn.model_selection import train_test_split

    rest = np.arange(len(labels))
    parts = {}
    for name, share in shares.items():
        size = round(share * len(labels))
        rest, parts[name] = train_test_split(
            rest, test_size=size, stratify=labels[rest], random_state=seed
        )
    parts["train"] = rest
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


def splits_from_arrays(name, x, y, class_names, seed=0, test=None, map_fn=None):
    """Splits arrays into train, calibration and test, by class.

    Inputs that are there more than once stay in one split, together: real
    texts repeat themselves. What a test split holds is left out of the others.

    Args:
        name: str, the data spec.
        x: array of inputs (or of file names, with `map_fn`).
        y: integer array of labels.
        class_names: list of str, in label order.
        seed: int. The same seed gives the same splits. Defaults to `0`.
        test: optional `(x, y)` that comes as a test split already. Without
            it a quarter becomes calibration and a quarter test data.
        map_fn: optional TensorFlow function from an element of `x` to an
            input.

    Returns:
        `Splits`.
    """
    import tensorflow as tf

    y = np.asarray(y, dtype="int32")
    hashes = example_hashes(x)
    groups = _Groups(hashes)
    repeats = len(y) - len(groups)
    if test is not None:
        groups = _Groups(hashes, left_out=example_hashes(test[0]))
    labels = y[groups.first]
    _check_counts(name, labels, class_names)
    shares = {"calibration": CALIBRATION_SHARE}
    how = (
        "a quarter of the examples for calibration and a quarter for test, "
        f"by class, seed {seed}"
    )
    if test is None:
        shares["test"] = TEST_SHARE
    else:
        shares["calibration"] = min(CALIBRATION_SHARE, 10_000 / len(labels))
        how = (
            "the data set's own test split; calibration held out of its "
            f"training split, by class, seed {seed}"
        )
    if repeats:
        how += f"; {repeats} repeated inputs are in the split of their first"
    if groups.left_out:
        how += f"; {groups.left_out} that the test split holds are left out"
    parts = {
        part: groups.rows(index)
        for part, index in stratified_parts(labels, shares, seed).items()
    }
    arrays = {part: (x[index], y[index]) for part, index in parts.items()}
    if test is not None:
        arrays["test"] = (test[0], np.asarray(test[1], dtype="int32"))

    def dataset(part):
        examples = tf.data.Dataset.from_tensor_slices(arrays[part])
        if map_fn is None:
            return examples
        return examples.map(
            lambda one, label: (map_fn(one), label),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

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
    )


class _Groups:
    """Rows of equal inputs, in the order of the first of each.

    Args:
        hashes: uint64 array `(rows,)`.
        left_out: uint64 array of inputs to leave out. Defaults to none.

    Attributes:
        first: int array `(groups,)`, the first row of each.
        left_out: int, number of rows that were left out.
    """

    def __init__(self, hashes, left_out=()):
        kept = np.flatnonzero(~np.isin(hashes, left_out))
        self.left_out = len(hashes) - len(kept)
        _, first, group = np.unique(
            hashes[kept], return_index=True, return_inverse=True
        )
        order = np.argsort(first)
        self.first = kept[first[order]]
        rank = np.empty(len(order), int)
        rank[order] = np.arange(len(order))
        group = rank[group]
        self._rows = kept[np.argsort(group, kind="stable")]
        self._ends = np.cumsum(np.bincount(group, minlength=len(order)))

    def __len__(self):
        return len(self.first)

    def rows(self, groups):
        """Rows of some groups, one group after the other."""
        if len(self._rows) == len(self.first):  # no repeats
            return self._rows[groups]
        parts = np.split(self._rows, self._ends[:-1])
        return np.concatenate([parts[group] for group in groups])


def _check_counts(name, y, class_names):
    if len(y) == 0:
        raise ValueError(f"Data spec '{name}' holds no examples.")
    counts = np.bincount(y, minlength=len(class_names))
    if len(class_names) < 2:
        raise ValueError(
            f"Data spec '{name}' needs at least two classes. Received: "
            f"{list(class_names)}."
        )
    scarce = [str(class_names[i]) for i in np.flatnonzero(counts < 4)]
    if scarce:
        raise ValueError(
            f"Data spec '{name}' needs at least 4 examples of every class, "
            f"each counted once, to split them. Too few in: {scarce[:10]}."
        )
