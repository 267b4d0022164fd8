"""Rows of a cache by key."""

import numpy as np


class KeyIndex:
    """Rows of a cache by key.

    Args:
        keys: uint64 array `(rows,)`.
    """

    def __init__(self, keys):
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def rows(self, keys):
        """Returns `(rows, found)`; a row that was not found is 0."""
        index = np.searchsorted(self._sorted, keys)
        found = index < len(self._sorted)
        found[found] = self._sorted[index[found]] == keys[found]
        return self._order[np.where(found, index, 0)], found
