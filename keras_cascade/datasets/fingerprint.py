"""Fingerprints: bounded sketches of which examples a data set holds."""

import hashlib
import threading

import keras
import numpy as np

SKETCH_SIZE = 65_536
_END = 2**64


class Fingerprint:
    """Bounded sketch of which examples a data set holds.

    Every example's input is hashed to 64 bits; the `SKETCH_SIZE` smallest
    hashes are kept. Because these are a random sample that depends only on
    the examples, two sketches tell how much two data sets overlap, in any
    order, split or batching. Random augmentation changes an example and so
    hides it.

    Args:
        hashes: optional uint64 array, sorted, as `hashes` returns it.
        examples: int, how many examples the hashes stand for.

    Example:

    >>> import numpy as np
    >>> from keras_cascade.datasets.fingerprint import Fingerprint
    >>> seen, new = Fingerprint(), Fingerprint()
    >>> seen.update(np.arange(12.0).reshape(6, 2))
    >>> new.update(np.arange(6.0, 18.0).reshape(6, 2))
    >>> new.share_seen_in(seen)
    0.5
    """

    def __init__(self, hashes=(), examples=0):
        self.hashes = np.asarray(hashes, dtype=np.uint64)
        self.examples = int(examples)
        self._lock = threading.Lock()  # data loaders have several threads

    def update(self, x):
        """Adds a batch of inputs (a structure of arrays, batch first)."""
        self.add(example_hashes(x))

    def add(self, hashes):
        """Adds examples by their hashes, as `example_hashes` returns them."""
        with self._lock:
            self.examples += len(hashes)
            merged = np.unique(np.concatenate([self.hashes, hashes]))
            self.hashes = merged[:SKETCH_SIZE]

    def merge(self, other):
        """Adds the examples of another fingerprint."""
        count = self.examples + other.examples
        self.add(other.hashes)
        self.examples = count

    def share_seen_in(self, other):
        """Share of these examples that `other` holds too, in [0, 1]."""
        limit = min(self._reach(), other._reach())
        mine = self.hashes[self.hashes.astype(object) < limit]
        if mine.size == 0:
            return 0.0
        return float(np.isin(mine, other.hashes).mean())

    def distinct_share(self):
        """Share of the examples that are no repeats, estimated, in (0, 1]."""
        if not self.examples:
            return 1.0
        distinct = self.hashes.size
        if distinct == SKETCH_SIZE:
            # The k smallest of n uniform hashes end near k / n.
            distinct = SKETCH_SIZE * (_END / (int(self.hashes[-1]) + 1))
        return min(1.0, distinct / self.examples)

    def hexdigest(self):
        """SHA-256 of the sketch: equal for equal sets of examples."""
        return hashlib.sha256(self.hashes.tobytes()).hexdigest()

    def _reach(self):
        """Smallest number that is above every hash the sketch is sure of."""
        full = self.hashes.size == SKETCH_SIZE
        return int(self.hashes[-1]) + 1 if full else _END


def example_hashes(x):
    """64-bit hash of each example's input, as a uint64 array.

    Numbers are hashed as float32, so that a set read as bytes and the same
    set read as floats are recognised as one.
    """
    leaves = [np.asarray(leaf) for leaf in keras.tree.flatten(x)]
    rows = len(leaves[0])
    leaves = [
        leaf.astype("float32").reshape(rows, -1)
        if leaf.dtype.kind in "biuf"
        else leaf.reshape(rows, -1)
        for leaf in leaves
    ]
    hashes = np.empty(rows, dtype=np.uint64)
    for row in range(rows):
        digest = hashlib.blake2b(digest_size=8)
        for leaf in leaves:
            digest.update(_as_bytes(leaf[row]))
        hashes[row] = int.from_bytes(digest.digest(), "little")
    return hashes


def _as_bytes(values):
    if values.dtype.kind == "f":
        return np.ascontiguousarray(values)
    texts = [
        v if isinstance(v, bytes) else str(v).encode() for v in values.tolist()
    ]
    # With their lengths: "a", "bc" is not "ab", "c".
    return b"".join(len(v).to_bytes(8, "little") + v for v in texts)
