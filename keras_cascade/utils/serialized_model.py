"""Serialized config of a model."""

import keras


def serialized_model(model):
    """Serializes a model, without an optimizer that was never built.

    Keras would build it on loading and then miss its variables in the file.
    """
    config = keras.saving.serialize_keras_object(model)
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:
        config.pop("compile_config", None)
    return config
