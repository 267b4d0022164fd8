"""Why a model could not be converted, in the user's own names."""

import re

#: An operation and the path of the layer that made it, as MLIR prints them.
_LOCATION = re.compile(r'fused\["(\w+):", "([^"@]+)@')
_UNSUPPORTED = re.compile(r"(?:Select ops|Custom ops): ([^\n]+)")


def explained(error, model):
    """What to tell the user of a conversion that failed.

    Args:
        error: the converter's exception.
        model: `keras.Model` that was converted.

    Returns:
        String that names each operation and the layer that uses it.
    """
    text = str(error)
    layers = _layers_by_name(model)
    found = {}
    for line in text.splitlines():
        # Notes repeat the places through which an error passed.
        located = _LOCATION.search(line) if "error: loc(" in line else None
        if located:
            operation, path = located.groups()
            found.setdefault(operation, set()).add(_layer_of(path, layers))
    for name in not_built_in(error):
        found.setdefault(name, set()).add(None)
    what = [
        f"{operation}{_in_layers(found[operation] - {None})}"
        for operation in sorted(found)
    ] or text.strip().splitlines()[-1:]
    return (
        "The student cannot be converted to TFLite's built-in operations. "
        f"Not built in: {', '.join(what)[:500]}. Replace the layers that use "
        "them."
    )


def not_built_in(error):
    """Names of the operations that a conversion failed for.

    Args:
        error: the converter's exception.

    Returns:
        Set of str.
    """
    return {
        name.strip()
        for names in _UNSUPPORTED.findall(str(error))
        for name in names.split(",")
    }


def _layers_by_name(model):
    return {layer.name: layer for layer in model._flatten_layers()}


def _layer_of(path, layers):
    """The innermost layer whose name is in an operation's path.

    A graph appends numbers to make names unique.
    """
    for part in reversed(path.split("/")):
        for name in (re.sub(r"_\d+$", "", part), part):
            if name in layers:
                return f"'{name}' ({type(layers[name]).__name__})"
    return None


def _in_layers(names):
    return f" (in {', '.join(sorted(names))})" if names else ""
