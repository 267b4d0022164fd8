"""Attributes of objects that are replaced for a while."""

import contextlib

_MISSING = object()


@contextlib.contextmanager
def attribute_set(owner, name, value):
    """Context in which an attribute has another value.

    Afterwards it is the object's own again, or that of its class.

    Args:
        owner: object.
        name: str.
        value: the other value.

    Example:

    >>> from types import SimpleNamespace
    >>> from keras_cascade.utils.attributes import attribute_set
    >>> layer = SimpleNamespace(rate=0.5)
    >>> with attribute_set(layer, "rate", 0.0):
    ...     layer.rate
    0.0
    >>> layer.rate
    0.5
    """
    own = vars(owner).get(name, _MISSING)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is _MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, own)
