"""Model that calls another and returns its logits."""

from typing import Any

import keras

from keras_cascade.models.binary_logits import BinaryLogits
from keras_cascade.models.probability_logits import ProbabilityLogits
from keras_cascade.utils.serialized_model import serialized_model
from keras_cascade.utils.tensor_ops import Tensor


@keras.saving.register_keras_serializable("keras_cascade")
class CalledLogits(keras.Model):
    """Logits of a subclassed model, computed from its outputs.

    Inside of a subclassed model no activation can be found. What it outputs
    is its logits, or its probabilities, of which `ProbabilityLogits` computes
    logits. One logit z becomes the two logits `(0, z)`.

    Args:
        model: `keras.Model` with one output of shape `(batch, outputs)`.
        probabilities: `"softmax"` or `"sigmoid"`, whose values the model
            outputs. Defaults to `None`: it outputs logits.
        **kwargs: of `keras.Model`.

    Call arguments:
        inputs: of the model, with a batch axis.
        training: bool, of the model. Defaults to `None`.

    Attributes:
        model: the model.
    """

    def __init__(
        self,
        model: keras.Model,
        probabilities: str | None = None,
        **kwargs: Any,
    ):
        kwargs.setdefault("name", model.name)
        super().__init__(**kwargs)
        # Inputs go to the model as they are, whatever the global policy.
        self.autocast = False
        self.model = model
        self.probabilities = probabilities
        self._head = None
        if probabilities is not None:
            self._head = ProbabilityLogits(probabilities)
        self._binary = BinaryLogits()
        if model.built:
            self.built = True

    @property
    def preprocessor(self) -> Any:
        """Preprocessor that the model brings, or `None`."""
        return getattr(self.model, "preprocessor", None)

    def call(self, inputs: Any, training: bool | None = None) -> Tensor:
        logits = self.model(inputs, training=training)
        if self._head is not None:
            logits = self._head(logits)
        return self._binary(logits) if logits.shape[-1] == 1 else logits

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": serialized_model(self.model),
            "probabilities": self.probabilities,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict | None = None
    ) -> "CalledLogits":
        model = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        return cls(**{**config, "model": model})
