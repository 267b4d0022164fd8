"""Keras model of a TensorFlow 2 SavedModel."""

import os
from typing import Any

import keras

from keras_cascade.utils.tensor_ops import Tensor

#: Endpoints that are looked for, the first that exists.
_ENDPOINTS = ("serving_default", "serve")
#: Outputs that are looked for among several.
_OUTPUTS = ("logits", "probabilities", "predictions", "output_0")


@keras.saving.register_keras_serializable("keras_cascade")
class SavedModelClassifier(keras.Model):
    """Runs a signature of a TensorFlow 2 SavedModel as a classifier.

    Needs the TensorFlow backend. A SavedModel's graph is code: a cascade with
    one is read from its `.keras` file with `safe_mode=False` only, and the
    folder must still be there. Models that the SavedModel was made of are not
    made again: the graph runs as it is, in inference mode.

    Args:
        filepath: str or path, folder of the SavedModel; or the
            `keras.layers.TFSMLayer` of one, when the model is read from a
            file.
        endpoint: str, signature. Defaults to `None`: `"serving_default"`,
            `"serve"`, or the only one.
        output: str, name of the output with logits or probabilities. Defaults
            to `None`: the only one, or `"logits"`, `"probabilities"`,
            `"predictions"` or `"output_0"`.
        **kwargs: of `keras.Model`.

    Call arguments:
        inputs: of the signature: one tensor, or a dict of several.
        training: bool; has no effect.

    Raises:
        ValueError: no such signature or output.
    """

    def __init__(
        self,
        filepath: str | os.PathLike | keras.layers.Layer,
        endpoint: str | None = None,
        output: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.autocast = False
        if not isinstance(filepath, keras.layers.Layer):
            path = os.path.abspath(filepath)
            filepath = keras.layers.TFSMLayer(
                path, call_endpoint=endpoint or _endpoint(path)
            )
        self.graph = filepath
        function = filepath.call_endpoint_fn
        self._specs = function.structured_input_signature[1]
        self.output_key = _output(function.structured_outputs, output)
        self.supports_jit = False
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Tensor:
        named = inputs
        if not isinstance(inputs, dict):
            if len(self._specs) != 1:
                raise ValueError(
                    f"Expected a dict of inputs, {sorted(self._specs)}, as "
                    f"'{self.name}' takes them. Received: one tensor."
                )
            named = dict.fromkeys(self._specs, inputs)
        if set(named) != set(self._specs):
            raise ValueError(
                f"Expected the inputs {sorted(self._specs)} of '{self.name}'. "
                f"Received: {sorted(named)}."
            )
        outputs = self.graph.call_endpoint_fn(
            **{
                name: _cast(named[name], spec)
                for name, spec in self._specs.items()
            }
        )
        return outputs[self.output_key]

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "graph": keras.saving.serialize_keras_object(self.graph),
            "output": self.output_key,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict | None = None
    ) -> "SavedModelClassifier":
        # Keras refuses the layer in safe mode.
        graph = keras.saving.deserialize_keras_object(config["graph"])
        return cls(graph, output=config["output"], name=config["name"])


def _endpoint(path):
    import tensorflow as tf

    # Keras's endpoints come with one named "serve" that is no signature.
    known = sorted(tf.saved_model.load(path).signatures)
    for name in (*_ENDPOINTS, *known[:1]):
        if name in known:
            return name
    raise ValueError(
        f"Expected a SavedModel with a signature in '{path}'. Received one "
        "with none. Write it with `model.export(path)`."
    )


def _output(outputs, name):
    known = sorted(outputs)
    if name is None and len(known) == 1:
        return known[0]
    for key in _OUTPUTS if name is None else (name,):
        if key in known:
            return key
    raise ValueError(
        f"Expected an output out of {known}. Received: {name!r}. Pass "
        "`output=`, the name of that with logits or probabilities."
    )


def _cast(value, spec):
    if spec.dtype.name == "string":
        return keras.ops.convert_to_tensor(value, dtype="string")
    return keras.ops.cast(value, spec.dtype.name)
