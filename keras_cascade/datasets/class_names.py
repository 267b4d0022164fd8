"""Class names in the order of their labels."""

import unicodedata

import numpy as np


def class_name(value):
    """A label of a file as a class name, without spaces around it.

    Letters with accents have one form (NFC): file names of macOS come in
    another one.

    Args:
        value: str, or what `str` makes one of.

    Example:

    >>> from keras_cascade.datasets.class_names import class_name
    >>> class_name(" cafe\\u0301 ") == "caf\\u00e9"
    True
    """
    return unicodedata.normalize("NFC", str(value).strip())


def ordered_names(values):
    """Distinct class names in label order.

    Numbers come by value ("10" behind "9"), other names by letters.

    Args:
        values: iterable of str.

    Returns:
        List of str.

    Example:

    >>> from keras_cascade.datasets.class_names import ordered_names
    >>> ordered_names(["10", "9", "9", "1"])
    ['1', '9', '10']
    >>> ordered_names(["ten", "9"])
    ['9', 'ten']
    """
    names = sorted(set(values))
    numbers = {name: _number(name) for name in names}
    if None in numbers.values():
        return names
    return sorted(names, key=lambda name: (numbers[name], name))


def label_indices(values, names):
    """int32 array of each value's index in `names`."""
    indices = {name: index for index, name in enumerate(names)}
    return np.array([indices[value] for value in values], dtype="int32")


def matching_labels(found, expected, name):
    """New label of each class of a data set, so that names match a model's.

    Args:
        found: list of str, the data set's class names in label order.
        expected: list of str, the model's.
        name: str, the data spec, for the error.

    Returns:
        int32 array of each found class's index in `expected`. Where one list
        is the numbers from 0 and the other is names, classes match by
        position.

    Raises:
        ValueError: the data set has classes that the model does not have.
    """
    found, expected = (
        list(map(class_name, found)),
        list(map(class_name, expected)),
    )
    known = set(expected)
    unknown = [one for one in found if one not in known]
    if not unknown:
        return label_indices(found, expected)
    # Labels that are indices, or a model whose classes nobody named.
    indices = are_indices(found) and not any(map(_is_number, expected))
    unnamed = are_indices(expected) and not any(map(_is_number, found))
    if (indices and len(found) <= len(expected)) or (
        unnamed and len(found) == len(expected)
    ):
        return np.arange(len(found), dtype="int32")
    present = set(found)
    missing = [one for one in expected if one not in present]
    raise ValueError(
        f"Data spec '{name}' and the model differ in their classes. Expected: "
        f"classes out of {_shown(expected)}. Received: {_shown(unknown)}, "
        f"which the model does not have (the data lack {_shown(missing)}). "
        "Rename the classes in the data, or train on these."
    )


def are_indices(names):
    """Returns whether names are the numbers from 0 in their order."""
    return list(names) == [str(number) for number in range(len(names))]


def _number(text):
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _is_number(text):
    return _number(text) is not None


def _shown(names):
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{list(names[:10])}{more}"
