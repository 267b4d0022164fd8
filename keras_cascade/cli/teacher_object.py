"""A teacher of the user's own code, by its name."""

import importlib
import os
import sys
from typing import Any


def teacher_object(name: str) -> Any:
    """Imports an object by `MODULE:NAME`, from the current folder too.

    Args:
        name: str, such as `"my_models:pipeline"`.

    Returns:
        The object.

    Raises:
        ValueError: there is no such module or name.
    """
    module, _, attribute = name.partition(":")
    expected = (
        "Expected --teacher MODULE:NAME, a Python module and the name in it of "
        "the teacher, such as my_models:pipeline."
    )
    if not module or not attribute:
        raise ValueError(f"{expected} Received: '{name}'.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{expected} Received: '{name}' ({error}).") from error
    return found
