"""Checks and masks for a subset of the classes."""

import numpy as np


def check_classes(classes):
    """Returns sorted ints >= 0 without repeats, or raises."""
    values = list(np.atleast_1d(np.asarray(classes)).tolist())
    whole = all(isinstance(v, int) and v >= 0 for v in values)
    if not values or not whole or len(set(values)) != len(values):
        raise ValueError(
            "`in_domain_classes` lists the classes that the student is meant "
            "to handle. Expected: at least one integer >= 0, no repeats. "
            f"Received: {classes!r}."
        )
    return sorted(values)


def class_mask(in_domain_classes, classes):
    """Returns a boolean array `(classes,)`, true where in-domain."""
    if in_domain_classes[-1] >= classes:
        raise ValueError(
            f"`in_domain_classes` names class {in_domain_classes[-1]}, but "
            f"the models have {classes} classes (0 to {classes - 1})."
        )
    mask = np.zeros(classes, dtype=bool)
    mask[in_domain_classes] = True
    return mask
