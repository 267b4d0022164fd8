"""Imports of packages that only an extra installs."""

import importlib


def optional_package(name, extra):
    """Imports a package that not every install contains.

    Args:
        name: str, the module's name.
        extra: str, the extra of keras-cascade that installs it.

    Returns:
        The module.

    Raises:
        ImportError: the package is not installed; the message names the
            extra.

    Example:

    >>> from keras_cascade.utils.optional_package import optional_package
    >>> optional_package("json", extra="none").loads("1")
    1
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(
            f"Expected the package '{name}', which is not installed. Install "
            f"it with `pip install 'keras-cascade[{extra}]'`."
        ) from error
