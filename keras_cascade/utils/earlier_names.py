"""Translation of names in files that keras_cascade 0.1.0 wrote.

Every name of 0.1.0 that is still read stands here and nowhere else.
"""

_CURRENT = {"promises": "guarantees"}


def current_names(values):
    """Renames the keys of 0.1.0 to those of this version.

    Args:
        values: what a JSON file held: dicts, lists and plain values.

    Returns:
        The same structure, under the names of this version.
    """
    if isinstance(values, dict):
        return {
            _CURRENT.get(name, name): current_names(value)
            for name, value in values.items()
        }
    if isinstance(values, list):
        return [current_names(value) for value in values]
    return values
