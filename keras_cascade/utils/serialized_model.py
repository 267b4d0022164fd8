"""A model's config, as it can be loaded again."""

import keras


def serialized_model(model):
    """A model's config, without an optimizer that never made a step.

    Keras would build it on loading and then miss its variables in the file.
    """
    config = keras.saving.serialize_keras_object(model)
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:
        config.pop("compile_config", None)
    return config
