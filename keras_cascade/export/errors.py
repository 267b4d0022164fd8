"""The error of an export that must not ship."""


class ExportError(RuntimeError):
    """A model that cannot be converted, or whose file answers otherwise."""
