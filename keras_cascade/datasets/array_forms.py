"""Arrays in the forms that people have them, as NumPy arrays."""

import numbers

import numpy as np

from keras_cascade.datasets.batches import is_sparse, to_numpy
from keras_cascade.text.text_columns import as_text_arrays

#: Python's and NumPy's numbers, of which a list may consist.
_NUMBERS = (numbers.Number, np.bool_, np.number)


def as_arrays(x):
    """Converts a structure of inputs to arrays.

    Args:
        x: array, tensor, pandas column or frame, sparse matrix, list of texts
            or of numbers; a dict, list or tuple of those; or anything else,
            which is returned as it is.

    Returns:
        The same structure of NumPy arrays: texts as arrays of `str`, numbers
        in the byte order of this machine. A sparse matrix becomes one in
        `scipy`'s CSR format.

    Raises:
        ValueError: a frame or an array mixes texts and numbers.
    """
    if isinstance(x, dict):
        return {name: as_arrays(column) for name, column in x.items()}
    if isinstance(x, (list, tuple)) and x:
        if all(isinstance(value, (str, bytes)) for value in x):
            return as_text_arrays(x)
        if all(_is_row(value) for value in x):
            return np.asarray(x)
        if type(x) in (list, tuple):
            return type(x)(as_arrays(one) for one in x)
        return x
    return _as_array(x)


def as_column(values):
    """Converts labels or weights, such as a list of numbers, to an array."""
    if isinstance(values, (list, tuple)):
        values = np.asarray(values)
    return _as_array(values)


def _is_row(value):
    """Returns whether a value is a number, or a list of numbers."""
    if isinstance(value, list):
        return bool(value) and all(map(_is_row, value))
    return isinstance(value, _NUMBERS)


def _as_array(x):
    if is_sparse(x):
        return x.tocsr()
    if _is_of(x, "pandas"):
        return _of_pandas(x)
    if _is_of(x, "tensorflow") and hasattr(x, "dense_shape"):
        return _of_sparse_tensor(x)
    is_tensor = hasattr(x, "__array__") or type(x).__name__ == "RaggedTensor"
    if not is_tensor or hasattr(x, "element_spec"):
        return x
    return _native(to_numpy(x))


def _is_of(x, package):
    return type(x).__module__.partition(".")[0] == package


def _native(array):
    """Array in this machine's byte order; objects as what they hold."""
    if array.dtype.kind == "O":
        return _of_objects(array)
    if array.dtype.kind in "SU":
        return as_text_arrays(array)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _of_objects(array):
    values = array.reshape(-1).tolist()
    numeric = [isinstance(value, _NUMBERS) for value in values]
    if values and all(numeric):
        return np.array(values).reshape(array.shape)
    texts = any(isinstance(value, (str, bytes)) for value in values)
    if texts and any(numeric):
        row = numeric.index(True) // max(1, array[:1].size)
        raise ValueError(
            "Expected texts or numbers in one array. Received both (a number "
            f"in row {row}). Pass a dict of columns, such as `{{'age': ..., "
            "'text': ...}`, to models with those inputs."
        )
    return as_text_arrays(array)


def _of_pandas(x):
    """Frames and columns, as Keras reads them.

    A column of numbers becomes an array `(rows, 1)`, one of texts `(rows,)`.
    Missing numbers become NaN.
    """
    if x.ndim == 2:
        columns = [_column(x.iloc[:, number]) for number in range(x.shape[1])]
        kinds = {column.dtype.kind == "O" for column in columns}
        if len(kinds) > 1:
            texts = [
                name
                for name, column in zip(x.columns, columns, strict=True)
                if column.dtype.kind == "O"
            ]
            raise ValueError(
                "Expected a DataFrame of numbers or one of texts. Received "
                f"both; texts in {texts[:5]}. Pass a dict of columns, "
                "`dict(frame)`, to models with those inputs."
            )
        return np.stack(columns, axis=1) if columns else np.empty((len(x), 0))
    column = _column(x)
    if column.dtype.kind == "O" or not hasattr(x, "iloc"):
        return column
    return column[:, None]


def _column(series):
    """One column of pandas as an array `(rows,)`."""
    dtype = series.dtype
    if hasattr(dtype, "categories"):
        return _column(series.astype(dtype.categories.dtype))
    if isinstance(dtype, np.dtype):
        return _native(series.to_numpy())
    if getattr(dtype, "kind", "O") not in "biuf":
        return _native(series.to_numpy(dtype=object))
    if series.isna().any():
        return series.to_numpy(dtype="float64", na_value=np.nan)
    return series.to_numpy(dtype=getattr(dtype, "numpy_dtype", None))


def _of_sparse_tensor(x):
    if len(x.dense_shape) != 2:
        return to_numpy(x)
    from scipy import sparse

    index = np.asarray(x.indices)
    matrix = (np.asarray(x.values), (index[:, 0], index[:, 1]))
    return sparse.csr_matrix(matrix, shape=tuple(np.asarray(x.dense_shape)))
