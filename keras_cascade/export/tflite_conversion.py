"""A SavedModel as a TFLite file of built-in operations."""

import warnings

from keras_cascade.errors import ExportError
from keras_cascade.export.conversion_errors import explained, not_built_in
from keras_cascade.export.error_function import REPLACEMENTS
from keras_cascade.export.saved_model_functions import replace_operations
from keras_cascade.utils.native_output import hidden_native_output

_MOVED = r"\s*Warning: tf\.lite\.Interpreter is deprecated"


def convert_to_tflite(folder, settings, model):
    """Converts a SavedModel.

    The converter knows `tf.nn.gelu` as an operation of TFLite. An error
    function that is left over becomes one of built-in operations.

    Args:
        folder: path of the SavedModel. It may be changed.
        settings: function that is given the `tf.lite.TFLiteConverter`.
        model: `keras.Model` that the user knows it by, for errors.

    Returns:
        Bytes.

    Raises:
        ExportError: names the operations that TFLite lacks, and their layers.
    """
    try:
        return _convert(folder, settings)
    except Exception as error:
        known = not_built_in(error) & set(REPLACEMENTS)
        if not known:
            raise ExportError(explained(error, model)) from error
    replace_operations(folder, {name: REPLACEMENTS[name] for name in known})
    try:
        return _convert(folder, settings)
    except Exception as error:
        raise ExportError(explained(error, model)) from error


def _convert(folder, settings):
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    settings(converter)
    with hidden_native_output(), warnings.catch_warnings():
        # The converter measures activations with an interpreter that is
        # about to leave TensorFlow.
        warnings.filterwarnings("ignore", _MOVED)
        return converter.convert()
