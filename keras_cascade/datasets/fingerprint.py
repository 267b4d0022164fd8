"""Fingerprints: bounded sketches of which examples a data set holds."""

import hashlib
import threading
from typing import NamedTuple

import keras
import numpy as np

SKETCH_SIZE = 65_536
#: Arrays are widened in parts of at most so many bytes.
PART_BYTES = 2**24
_END = 2**64


class Fingerprint:
    """Bounded sketch of which examples a data set holds.

    Every example's input is hashed to 64 bits; the `SKETCH_SIZE` smallest
    hashes are kept. Because these are a random sample that depends only on
    the examples, two sketches tell how much two data sets overlap, in any
    order, split or batching. Random augmentation changes an example and so
    hides it.

    Examples are distinguished by their exact values (`hash_examples`). A data
    set in float64 is also recognised in a copy that was cast to float32, as
    Keras casts arrays.

    Args:
        hashes: optional uint64 array, sorted, as `hashes` returns it.
        examples: int, how many examples the hashes stand for.
        cast: optional uint64 array, sorted, as `cast` returns it.
        of_float32: bool. The hashes are those of keras_cascade 0.1.0, which
            are of every number's float32 value. Defaults to `False`.

    Attributes:
        hashes: uint64 array, the smallest hashes of the examples.
        cast: uint64 array, the smallest hashes of the copies in float32 of
            examples in float64 that float32 cannot hold.
        float32: uint64 array, the smallest hashes that 0.1.0 made of the
            examples, integers too, that float32 cannot hold.
        examples: int.
        of_float32: bool.

    Example:

    >>> import numpy as np
    >>> from keras_cascade.datasets.fingerprint import Fingerprint
    >>> seen, new = Fingerprint(), Fingerprint()
    >>> seen.update(np.arange(12.0).reshape(6, 2))
    >>> new.update(np.arange(6.0, 18.0).reshape(6, 2))
    >>> new.share_seen_in(seen)
    0.5
    """

    def __init__(self, hashes=(), examples=0, cast=(), of_float32=False):
        self.hashes = np.asarray(hashes, dtype=np.uint64)
        self.cast = np.asarray(cast, dtype=np.uint64)
        self.float32 = np.empty(0, dtype=np.uint64)
        self.examples = int(examples)
        self.of_float32 = of_float32
        self._lock = threading.Lock()  # data loaders have several threads

    def update(self, x):
        """Adds a batch of inputs (a structure of arrays, batch first)."""
        self.add(hash_examples(x))

    def add(self, hashes):
        """Adds examples by their hashes.

        Args:
            hashes: `ExampleHashes`, as `hash_examples` returns them.
        """
        with self._lock:
            self.examples += len(hashes.exact)
            self.hashes = _smallest(self.hashes, hashes.exact)
            self.cast = _smallest(self.cast, hashes.cast)
            self.float32 = _smallest(self.float32, hashes.float32)

    def merge(self, other):
        """Adds the examples of another fingerprint."""
        count = self.examples + other.examples
        self.add(ExampleHashes(other.hashes, other.cast, other.float32))
        self.examples = count

    def share_seen_in(self, other):
        """Share of these examples that `other` holds too, in [0, 1]."""
        share = _share(self.hashes, other.hashes)
        # Two data sets in float64 are compared exactly: values close together
        # have the same float32. One in float32 may be a copy of the other.
        if self.cast.size and not other.cast.size:
            cast = _share(self.cast, other.hashes)
            share = max(share, cast * self._part(self.cast))
        elif other.cast.size and not self.cast.size:
            share = max(share, _share(self.hashes, other.cast))
        if other.of_float32:
            alike = _share(self.float32, other.hashes)
            share = max(share, alike * self.share_changed_by_float32())
        return share

    def share_changed_by_float32(self):
        """Share of the examples that float32 cannot hold, in [0, 1]."""
        return self._part(self.float32)

    def _part(self, sketch):
        if not sketch.size:
            return 0.0
        return min(1.0, _distinct(sketch) / _distinct(self.hashes))

    def distinct_share(self):
        """Share of the examples that are no repeats, estimated, in (0, 1]."""
        if not self.examples:
            return 1.0
        return min(1.0, _distinct(self.hashes) / self.examples)

    def hexdigest(self):
        """SHA-256 of the sketch: equal for equal sets of examples."""
        return hashlib.sha256(self.hashes.tobytes()).hexdigest()


class ExampleHashes(NamedTuple):
    """Hashes of a batch of inputs.

    Attributes:
        exact: uint64 array `(rows,)`.
        cast: uint64 array `(n,)`, of the float64 inputs that float32 cannot
            hold, as Keras casts them.
        float32: uint64 array `(n,)`, of the inputs that float32 cannot hold,
            as keras_cascade 0.1.0 hashed them.
    """

    exact: np.ndarray
    cast: np.ndarray
    float32: np.ndarray


def hash_examples(x):
    """Hashes each example's input to 64 bits.

    Numbers are hashed by their exact values, whatever their type: an image in
    uint8 and the same image in float32 are one example, as are a float32
    array and its copy in float64. The bytes that are hashed are of the first
    type that holds all values of an input: float32, float64, int64, uint64.

    Args:
        x: structure of arrays, batch first.

    Returns:
        `ExampleHashes`.
    """
    leaves = [np.asarray(leaf) for leaf in keras.tree.flatten(x)]
    rows = len(leaves[0])
    exact = np.empty(rows, dtype=np.uint64)
    cast, float32 = [], []
    for start, stop in _parts(leaves, rows):
        columns = [_Column(leaf[start:stop]) for leaf in leaves]
        for row in range(stop - start):
            exact[start + row] = _digest(c.exact(row) for c in columns)
            if all(c.fits(row) for c in columns):
                continue
            float32.append(_digest(c.as_float32(row) for c in columns))
            if any(c.is_float and not c.fits(row) for c in columns):
                cast.append(_digest(c.as_cast(row) for c in columns))
    return ExampleHashes(
        exact, np.array(cast, np.uint64), np.array(float32, np.uint64)
    )


def example_hashes(x):
    """`exact` of `hash_examples`: a uint64 array `(rows,)`."""
    return hash_examples(x).exact


def cast_hashes(x):
    """Hashes of a batch of inputs as Keras casts it, float64 to float32.

    Args:
        x: structure of arrays, batch first.

    Returns:
        uint64 array `(rows,)`.
    """
    return example_hashes(
        [
            leaf.astype("float32") if leaf.dtype.kind == "f" else leaf
            for leaf in map(np.asarray, keras.tree.flatten(x))
        ]
    )


class _Column:
    """Rows of one array of a batch, as the bytes that are hashed.

    Args:
        array: array with a batch axis.
    """

    def __init__(self, array):
        self._array = array.reshape(len(array), -1)
        if array.dtype.kind == "V":  # bfloat16 and other types of Keras's own
            self._array = self._array.astype("float32")
        kind, size = self._array.dtype.kind, self._array.dtype.itemsize
        self.is_float = kind == "f"
        self._is_number = kind in "biuf"
        self._float32 = self._fits = None
        if self._is_number:
            with np.errstate(over="ignore"):
                self._float32 = self._array.astype("float32")
            if kind in "iuf" and size > 2 and self._array.dtype != "float32":
                self._fits = _same_values(self._float32, self._array)

    def exact(self, row):
        """Bytes of a row's exact values."""
        if not self._is_number:
            return _text_bytes(self._array[row])
        if self.fits(row):
            return self.as_float32(row)
        values = self._array[row]
        with np.errstate(over="ignore"):
            wide = values.astype("float64")
        if self.is_float or _same_values(wide[None], values[None])[0]:
            return b"float64" + wide.tobytes()
        name = "uint64" if values.dtype.kind == "u" else "int64"
        if name == "uint64" and values.max() < 2**63:
            name = "int64"
        return name.encode() + values.astype(name).tobytes()

    def as_float32(self, row):
        """Bytes of a row's values in float32; texts as they are."""
        if not self._is_number:
            return _text_bytes(self._array[row])
        return np.ascontiguousarray(self._float32[row])

    def as_cast(self, row):
        """Bytes of a row's values as Keras casts them: floats to float32."""
        return self.as_float32(row) if self.is_float else self.exact(row)

    def fits(self, row):
        """Returns whether float32 holds a row's values."""
        return self._fits is None or self._fits[row]


def _same_values(converted, array):
    """Bool array `(rows,)`: which rows a conversion left as they were."""
    if array.dtype.kind in "iu":
        # Compared as integers: NumPy would compare both as float64.
        limits = np.iinfo(array.dtype)
        inside = converted >= limits.min
        inside &= converted < float(limits.max) + 1
        back = np.where(inside, converted, 0).astype(array.dtype)
        return ((back == array) & inside).all(axis=1)
    same = converted == array
    return (same | np.isnan(array)).all(axis=1)


def _parts(leaves, rows):
    """Yields `(start, stop)` of parts that are widened at a time."""
    row_bytes = max(1, sum(leaf.itemsize * leaf[:1].size for leaf in leaves))
    size = max(1, PART_BYTES // row_bytes)
    for start in range(0, rows, size):
        yield start, min(start + size, rows)


def _digest(parts):
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return int.from_bytes(digest.digest(), "little")


def _text_bytes(values):
    texts = [
        v if isinstance(v, bytes) else str(v).encode() for v in values.tolist()
    ]
    # With their lengths: "a", "bc" is not "ab", "c".
    return b"".join(len(v).to_bytes(8, "little") + v for v in texts)


def _smallest(kept, hashes):
    if not len(hashes):
        return kept
    merged = np.unique(np.concatenate([kept, hashes]))
    return merged[:SKETCH_SIZE]


def _share(mine, others):
    """Share of the examples of one sketch that another holds too."""
    limit = min(_reach(mine), _reach(others))
    sure = mine[mine.astype(object) < limit]
    if sure.size == 0:
        return 0.0
    return float(np.isin(sure, others).mean())


def _reach(sketch):
    """Smallest number that is above every hash a sketch is sure of."""
    full = sketch.size == SKETCH_SIZE
    return int(sketch[-1]) + 1 if full else _END


def _distinct(sketch):
    """Number of distinct examples of a sketch, estimated."""
    if sketch.size < SKETCH_SIZE:
        return sketch.size
    # The k smallest of n uniform hashes end near k / n.
    return SKETCH_SIZE * (_END / (int(sketch[-1]) + 1))
