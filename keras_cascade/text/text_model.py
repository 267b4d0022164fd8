"""Keras model that takes texts: a preprocessor and a model of token ids."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_cascade.text import preprocessors
from keras_cascade.text.text_columns import is_text
from keras_cascade.text.tokenizer import FEEDS, Tokenizer
from keras_cascade.utils.serialized_model import serialized_model
from keras_cascade.utils.tensor_ops import Tensor

_TOKENIZER = "tokenizer"


@keras.saving.register_keras_serializable("keras_cascade")
class TextModel(keras.Model):
    """Runs a model of token ids behind its own preprocessor.

    A cascade's teacher and student may tokenize differently: both get the raw
    text, each has its own preprocessor. Needs the TensorFlow backend.

    Args:
        model: `keras.Model` from token ids to logits: from one int32 tensor
            `(batch, length)`, or from a dict with `token_ids` and any of
            `segment_ids` and `padding_mask`.
        preprocessor: `keras_cascade.text.Tokenizer`, adapted
            `keras.layers.TextVectorization`, or a KerasHub preprocessor.
            Defaults to `None`: `model.preprocessor`, which KerasHub's tasks
            have.
        fields: list of str, for pairs of texts: the names of the first and
            the second in a dict of inputs. Defaults to `None`: single texts.
        **kwargs: of `keras.Model`.

    Call arguments:
        inputs: string tensor `(batch,)`; or with `fields` a dict of them; or
            token ids, which go to the model as they are.

    Raises:
        ValueError: no preprocessor, or one whose vocabulary does not match
            the model.

    Example:

    >>> import keras, numpy as np
    >>> import keras_cascade as kc
    >>> texts = np.array(["a cat", "a dog"], dtype=object)
    >>> tokenizer = kc.text.train_tokenizer(texts)
    >>> model = keras.Sequential([
    ...     keras.Input((None,), dtype="int32"),
    ...     keras.layers.Embedding(tokenizer.vocabulary_size, 4),
    ...     keras.layers.GlobalMaxPooling1D(),
    ...     keras.layers.Dense(2),
    ... ])
    >>> kc.text.TextModel(model, tokenizer)(texts).shape
    TensorShape([2, 2])
    """

    def __init__(
        self,
        model: keras.Model,
        preprocessor: "Tokenizer | keras.layers.Layer | None" = None,
        fields: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if keras.backend.backend() != "tensorflow":
            raise RuntimeError(
                "Texts need the TensorFlow backend. Received: "
                f"'{keras.backend.backend()}'. Start Python with "
                "KERAS_BACKEND=tensorflow, or tokenize first and train the "
                "model of token ids."
            )
        if preprocessor is None:
            preprocessor = getattr(model, "preprocessor", None)
        if preprocessor is None:
            raise ValueError(
                f"Expected `preprocessor` for the model '{model.name}', to "
                "make token ids of texts. Received none, and the model brings "
                "none of its own."
            )
        if fields is not None and len(fields) != 2:
            raise ValueError(
                "Expected `fields` to be the names of two texts. Received: "
                f"{fields!r}."
            )
        self.model = model
        self.preprocessor = preprocessor  # where Keras tracks and saves it
        self.fields = None if fields is None else tuple(fields)
        self.step = preprocessors.get(preprocessor, _feeds(model))
        self._check_length()
        # XLA cannot compile operations on strings.
        self.supports_jit = False
        self._check_vocabulary()
        if model.built:
            self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Tensor:
        return self.model(self.preprocess(inputs), training=training)

    def preprocess(self, inputs: Any) -> Any:
        """Maps texts to the inputs of the inner model.

        Args:
            inputs: of a call, as tensors.

        Returns:
            int32 tensor `(batch, length)`, or a dict of them.
        """
        if not is_text(keras.tree.flatten(inputs)[0]):
            return inputs
        columns = [
            keras.ops.reshape(column, (-1,)) for column in self.columns(inputs)
        ]
        return self._structured(self.step.tensors(tuple(columns)))

    def model_inputs(self, inputs: Any) -> Any:
        """Maps texts to the inputs of the inner model, in NumPy.

        Args:
            inputs: array of str or bytes, or a dict of them.

        Returns:
            int32 array `(rows, length)`, or a dict of them.
        """
        if not is_text(keras.tree.flatten(inputs)[0]):
            return inputs
        return self._structured(self.step.arrays(self.columns(inputs)))

    def longest_inputs(self, inputs: Any) -> Any:
        """Returns model inputs of one row, padded to the longest length.

        Args:
            inputs: array of texts, or a dict of them.
        """
        row = keras.tree.map_structure(
            lambda ids: ids[:1], self.model_inputs(inputs)
        )
        lengths = getattr(self.preprocessor, "lengths", None)
        if not lengths or not is_text(keras.tree.flatten(inputs)[0]):
            return row
        return keras.tree.map_structure(
            lambda ids: np.pad(ids, [(0, 0), (0, lengths[-1] - ids.shape[1])]),
            row,
        )

    def columns(self, inputs: Any) -> tuple[Any, ...]:
        """Returns a tuple: the column of texts, or the two columns of pairs."""
        if not isinstance(inputs, dict):
            if self.fields is not None:
                raise ValueError(
                    f"Expected a dict with the texts {list(self.fields)}. "
                    "Received one text a row."
                )
            return (inputs,)
        fields = self.fields or tuple(inputs)[:1]
        if set(fields) != set(inputs):
            expected = "one text" if self.fields is None else list(self.fields)
            raise ValueError(
                f"Expected {expected} in the dict of inputs. Received: "
                f"{sorted(inputs)}. Pass `fields=` to `TextModel`, the names "
                "of both texts in their order."
            )
        return tuple(inputs[name] for name in fields)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "model": serialized_model(self.model),
            "preprocessor": self._serialized_preprocessor(),
            "fields": self.fields,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TextModel":
        config = dict(config)
        deserialize = keras.saving.deserialize_keras_object
        config["model"] = deserialize(config["model"])
        preprocessor = config["preprocessor"]
        if isinstance(preprocessor, dict) and _TOKENIZER in preprocessor:
            config["preprocessor"] = Tokenizer(**preprocessor[_TOKENIZER])
        elif isinstance(preprocessor, dict):
            config["preprocessor"] = deserialize(preprocessor)
        return cls(**config)

    def _serialized_preprocessor(self):
        if isinstance(self.preprocessor, Tokenizer):
            return {_TOKENIZER: self.preprocessor.get_config()}
        if self.preprocessor is getattr(self.model, "preprocessor", None):
            # It is saved as a part of the model. Saved twice, each copy would
            # lack half of its files.
            return None
        return keras.saving.serialize_keras_object(self.preprocessor)

    def _structured(self, feeds):
        if isinstance(_structure(self.model), dict):
            return feeds
        return next(iter(feeds.values()))

    def _check_length(self):
        length = _fixed_length(self.model)
        lengths = getattr(self.preprocessor, "lengths", [length])
        if length is not None and lengths != [length]:
            raise ValueError(
                f"Expected a tokenizer of the length {length}, which the model "
                f"'{self.model.name}' takes. Received: {lengths}. Make it with "
                f"`tokenizer.with_lengths({length})`, or build the model for "
                "any length."
            )

    def _check_vocabulary(self):
        """Runs the model on the largest token id of the preprocessor."""
        size = self.step.vocabulary_size
        if size is None or not self.model.built:
            return
        import tensorflow as tf

        shape = (1, _fixed_length(self.model) or 2)
        probe = {name: np.zeros(shape, "int32") for name in self.step.feeds}
        probe["token_ids"][0, 0] = size - 1
        if "padding_mask" in probe:
            probe["padding_mask"][0, :2] = 1

        try:
            # A GPU reads an id outside the embeddings as zeros, silently.
            with tf.device("CPU:0"):
                self.model(self._structured(probe), training=False)
        except tf.errors.InvalidArgumentError:
            raise ValueError(
                f"The vocabulary does not match the model '{self.model.name}'. "
                f"Expected: a model with embeddings for {size} tokens, as "
                "the preprocessor makes them. Received one that fails on the "
                f"token id {size - 1}."
            ) from None


def as_text_model(model):
    """Wraps a KerasHub task that has a tokenizer in a `TextModel`.

    Args:
        model: anything.

    Returns:
        `TextModel`, or `model` itself where it is no such task.
    """
    if isinstance(model, TextModel) or not isinstance(model, keras.Model):
        return model
    preprocessor = getattr(model, "preprocessor", None)
    if getattr(preprocessor, "tokenizer", None) is None:
        return model
    return TextModel(model, preprocessor, name=model.name)


def _structure(model):
    """Returns the structure of a model's inputs, or `None` if unknown."""
    try:
        return model.input
    except AttributeError:  # Sequential, or built by being called
        return None


def _feeds(model):
    structure = _structure(model)
    if not isinstance(structure, dict):
        return FEEDS[:1]
    unknown = set(structure) - set(FEEDS)
    if unknown or FEEDS[0] not in structure:
        raise ValueError(
            f"Expected a model that takes 'token_ids' and any of {FEEDS[1:]}. "
            f"Received one that takes {sorted(structure)}."
        )
    return tuple(structure)


def _fixed_length(model):
    inputs = getattr(model, "inputs", None)
    return inputs[0].shape[1] if inputs and len(inputs[0].shape) > 1 else None
