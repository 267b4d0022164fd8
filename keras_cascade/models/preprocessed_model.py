"""Keras model behind the preprocessor that it brings."""

from typing import Any

import keras

from keras_cascade.text.text_model import as_text_model
from keras_cascade.utils.serialized_model import serialized_model
from keras_cascade.utils.tensor_ops import Tensor


@keras.saving.register_keras_serializable("keras_cascade")
class PreprocessedModel(keras.Model):
    """Runs a model behind the preprocessor that it brings.

    KerasHub's tasks for images have one: it resizes and scales, in their own
    `fit`, `evaluate` and `predict`, but not where the model is called. A
    cascade puts it into the call, so that teacher and student both take the
    images as they are, and so do the exported files.

    Args:
        model: `keras.Model` with an attribute `preprocessor`, a layer.
        **kwargs: of `keras.Model`.

    Call arguments:
        inputs: what the preprocessor takes, with a batch axis.
        training: bool, of the model. Defaults to `None`.
    """

    def __init__(self, model: keras.Model, **kwargs: Any):
        super().__init__(**kwargs)
        self.model = model
        if model.built:
            self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Tensor:
        return self.model(self.preprocess(inputs), training=training)

    def preprocess(self, inputs: Any) -> Any:
        """Maps inputs to those of the inner model.

        Args:
            inputs: of a call, as tensors.
        """
        return self.model.preprocessor(inputs)

    def get_config(self) -> dict[str, Any]:
        # The preprocessor is saved as a part of the model.
        return {**super().get_config(), "model": serialized_model(self.model)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PreprocessedModel":
        model = keras.saving.deserialize_keras_object(config["model"])
        return cls(**{**config, "model": model})


def with_own_preprocessor(model):
    """Wraps a model that brings a preprocessor, such as a KerasHub task.

    Args:
        model: anything.

    Returns:
        `TextModel` for a task that has a tokenizer, `PreprocessedModel` for
        another that has a preprocessor, or `model` itself.
    """
    model = as_text_model(model)
    if not isinstance(model, keras.Model):
        return model
    # Of its own methods only these apply it: `fit`, `evaluate`, `predict`.
    brings = hasattr(model, "preprocess_samples")
    if not brings or getattr(model, "preprocessor", None) is None:
        return model
    return PreprocessedModel(model, name=model.name)
