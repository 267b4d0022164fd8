"""Conversion of a SavedModel to a TFLite file of built-in operations."""

import re

from keras_cascade.errors import ExportError
from keras_cascade.export.converter_process import (
    CONVERTER,
    ConversionError,
)
from keras_cascade.export.saved_model_functions import (
    REPLACEMENTS,
    replace_operations,
)

#: An operation and the path of its layer, as MLIR prints them.
_LOCATION = re.compile(r'fused\["(\w+):", "([^"@]+)@')
_UNSUPPORTED = re.compile(r"(?:Select ops|Custom ops): ([^\n]+)")


def convert_to_tflite(folder, settings, model):
    """Converts a SavedModel.

    The converter knows `tf.nn.gelu` as an operation of TFLite. An error
    function that is left over becomes one of built-in operations.

    Args:
        folder: path of the SavedModel. It may be changed.
        settings: `ConverterSettings`.
        model: `keras.Model` whose layers an error names.

    Returns:
        Bytes.

    Raises:
        ExportError: names the operations that TFLite lacks, and their layers;
            or the converter's process did not answer.
    """
    try:
        return CONVERTER.convert(folder, settings)
    except ConversionError as error:
        known = _not_built_in(error) & set(REPLACEMENTS)
        if not known:
            raise ExportError(_explanation(error, model)) from error
    replace_operations(folder, {name: REPLACEMENTS[name] for name in known})
    try:
        return CONVERTER.convert(folder, settings)
    except ConversionError as error:
        raise ExportError(_explanation(error, model)) from error


def _explanation(error, model):
    """Message that names each unsupported operation and its layer."""
    text = str(error)
    layers = layers_by_name(model)
    users = {}
    for line in text.splitlines():
        # Notes repeat the locations through which an error passed.
        located = _LOCATION.search(line) if "error: loc(" in line else None
        if located:
            operation, path = located.groups()
            users.setdefault(operation, set()).add(layer_of(path, layers))
    for name in _not_built_in(error):
        users.setdefault(name, set()).add(None)
    operations = [
        f"{operation}{_in_layers(users[operation] - {None})}"
        for operation in sorted(users)
    ] or text.strip().splitlines()[-1:]
    return (
        "The student cannot be converted to TFLite's built-in operations. "
        f"Not built in: {', '.join(operations)[:500]}. Replace the layers that "
        "use them."
    )


def _not_built_in(error):
    """Set of the names of operations that a conversion failed for."""
    return {
        name.strip()
        for names in _UNSUPPORTED.findall(str(error))
        for name in names.split(",")
    }


def layers_by_name(model):
    """Dict of name to layer, of a model and all models inside of it."""
    return {layer.name: layer for layer in model._flatten_layers()}


def layer_of(path, layers):
    """Innermost layer whose name is in an operation's path, for errors.

    A graph appends numbers to make names unique.
    """
    for part in reversed(path.split("/")):
        for name in (re.sub(r"_\d+$", "", part), part):
            if name in layers:
                return f"'{name}' ({type(layers[name]).__name__})"
    return None


def _in_layers(names):
    return f" (in {', '.join(sorted(names))})" if names else ""
