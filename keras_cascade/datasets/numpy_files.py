"""Reader of NumPy files."""

import tokenize
import zipfile

import numpy as np

_FAILURES = (
    EOFError,
    OSError,
    SyntaxError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
)


def read_numpy(file, archive):
    """Reads an .npy file, or an .npz archive as a dict.

    Args:
        file: path.
        archive: bool, whether an archive is expected.

    Returns:
        Array, or dict of arrays.

    Raises:
        ValueError: the file is something else.
    """
    kind = ".npz" if archive else ".npy"
    try:
        with open(file, "rb") as opened:
            data = np.load(opened, allow_pickle=False)
            if archive:
                with data:
                    return {key: data[key] for key in data.files}
            if isinstance(data, np.ndarray):
                return data
    except (*_FAILURES, AttributeError, TypeError) as error:
        reason = f" ({type(error).__name__})"
        if "Object arrays" in str(error):
            raise ValueError(
                f"Expected '{file}' to hold plain arrays. Received one of "
                "Python objects, which could run any code when it is loaded. "
                "Write texts and labels as `x.astype(str)`, numbers as "
                "`x.astype('float32')`."
            ) from None
    else:
        reason = ""
    raise ValueError(
        f"Expected '{file}' to be an {kind} file of plain arrays. It is not "
        f"one{reason}. Write it with `numpy.save{'z' if archive else ''}`."
    )
