"""Functional view of a model that ends in its logits."""

from typing import Any

import keras

from keras_cascade.models.binary_logits import BinaryLogits
from keras_cascade.models.heads import (
    last_activation,
    tensor_before_activation,
)
from keras_cascade.models.probability_logits import ProbabilityLogits
from keras_cascade.utils.serialized_model import serialized_model


@keras.saving.register_keras_serializable("keras_cascade")
class LogitsView(keras.Model):
    """Model between the inputs of another and its logits.

    The other model ends in softmax or sigmoid, or has one logit. It is not
    changed: the view has the same layers, and of a last layer with an
    activation a linear twin on the same variables. Training the view trains
    the model. One logit z becomes the two logits `(0, z)`.

    Args:
        model: `keras.Model`, Sequential or Functional, with one output of
            shape `(batch, outputs)`.
        probabilities: `"softmax"` or `"sigmoid"`, where the model outputs
            such values and no activation is found: logits are then computed
            of them, by `ProbabilityLogits`. Defaults to `None`.
        binary: bool. Makes two logits of one. Defaults to `True`.
        **kwargs: of `keras.Model`.

    Attributes:
        model: the model.

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")]
    ... )
    >>> view = kc.models.LogitsView(model)
    >>> view.output_shape
    (None, 2)
    >>> view.trainable_variables[0] is model.trainable_variables[0]
    True
    """

    def __init__(
        self,
        model: keras.Model,
        probabilities: str | None = None,
        binary: bool = True,
        **kwargs: Any,
    ):
        if probabilities is not None:
            head = ProbabilityLogits(probabilities, name="probability_logits")
            logits = head(model.outputs[0])
        elif last_activation(model) is not None:
            logits = tensor_before_activation(model, _inner_view)
        else:
            logits = model.outputs[0]
        if binary and logits.shape[-1] == 1:
            logits = BinaryLogits(name="binary_logits")(logits)
        kwargs.setdefault("name", model.name)
        super().__init__(inputs=_inputs(model), outputs=logits, **kwargs)
        self.model = model
        self.probabilities = probabilities
        self.binary = binary

    @property
    def preprocessor(self) -> Any:
        """Preprocessor that the model brings, or `None`."""
        return getattr(self.model, "preprocessor", None)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": serialized_model(self.model),
            "probabilities": self.probabilities,
            "binary": self.binary,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict | None = None
    ) -> "LogitsView":
        model = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        return cls(**{**config, "model": model})


def _inner_view(model):
    return LogitsView(model, binary=False)


def _inputs(model):
    """Structure of a model's inputs."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0]
    return model.input
