"""Students in int8 with some of their layers in float.

The converter measures the ranges of activations once. Which layers are then
quantized can be decided again and again, in about a second each.
"""

import re

import keras
import numpy as np

from keras_cascade.errors import ExportError
from keras_cascade.utils.native_output import hidden_native_output
from keras_cascade.utils.numpy_softmax import numpy_softmax

#: Layers that an error names by their effect.
MOST_NAMED = 5
#: Share of the accepted distance that the advised layers leave.
MARGIN = 0.5
#: Rows that effects are measured on.
ROWS = 32


def calibrated(converter):
    """Returns the file with measured ranges, in float, as bytes.

    Args:
        converter: `tf.lite.TFLiteConverter` with representative data.
    """
    import tensorflow as tf

    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=lambda: iter(())
    )
    return debugger.calibrated_model


class MixedInt8:
    """Quantizes a calibrated file with some of its layers in float.

    Args:
        content: bytes, of `calibrated`.
        model: `keras.Model` of the student.

    Attributes:
        layers: dict of name to list of tensors: the outputs of a layer's
            operations. An operation outside of layers has a name of its own.
    """

    def __init__(self, content, model):
        self._content = content
        every = list(model._flatten_layers())
        known = {layer.name for layer in every}
        single = {
            layer.name for layer in every if not isinstance(layer, keras.Model)
        }
        self._paths = {
            output: [
                _path(part, known, single) for part in name.split(";") if part
            ]
            for output, name in _operations(content).items()
        }
        weighted = {layer.name for layer in every if layer.weights}
        self.layers = {}
        for name, paths in self._paths.items():
            if not paths:
                continue
            inner = [
                part for path in paths for part in path[::-1] if part in single
            ]
            # Of a fused operation the layer that has weights, not its
            # activation or padding.
            inner = [part for part in inner if part in weighted] or inner
            self.layers.setdefault(
                inner[-1] if inner else paths[0][-1], []
            ).append(name)

    def quantized(self, float_layers=()):
        """The file with all but some layers in int8.

        Args:
            float_layers: names of layers, or of models whose layers all stay
                in float. Defaults to `()`.

        Returns:
            Bytes.

        Raises:
            ExportError: a name that the student does not have.
        """
        names, computing, kept = set(float_layers), set(), []
        for tensor, paths in self._paths.items():
            inside = set().union(*paths)
            computing |= inside
            if names & inside:
                kept.append(tensor)
        if names - computing:
            raise ExportError(
                "Expected `float_layers` out of the student's layers that "
                f"compute something: {sorted(self.layers)}. Received: "
                f"{sorted(names - computing)}."
            )
        return self._without(kept)

    def effects(self, inputs):
        """Mean distance of the answers with each layer alone in int8.

        Args:
            inputs: list of dicts of name to array, batches.

        Returns:
            Dict of layer name to mean distance, the largest first.
        """
        expected = _answers(self._content, inputs)
        every = set(self._paths)
        distances = {
            name: _distance(
                _answers(self._without(every - set(tensors)), inputs), expected
            )
            for name, tensors in self.layers.items()
        }
        return dict(
            sorted(distances.items(), key=lambda pair: (-pair[1], pair[0]))
        )

    def advice(self, inputs, limit):
        """Names the layers that move the answers, and what to keep in float.

        Args:
            inputs: list of dicts of name to array, batches.
            limit: float, accepted mean distance.

        Returns:
            Str, one to three sentences.
        """
        inputs = inputs[:ROWS]
        effects = self.effects(inputs)
        worst = ", ".join(
            f"'{name}' by {effect:.2g}"
            for name, effect in list(effects.items())[:MOST_NAMED]
        )
        text = f"Alone in 8 bits, these layers move them most: {worst}."
        expected = _answers(self._content, inputs)
        names, count = list(effects), 1
        while count < len(names):
            content = self.quantized(names[:count])
            distance = _distance(_answers(content, inputs), expected)
            if distance <= MARGIN * limit:
                size = len(content) / len(self._content)
                return (
                    f"{text} With `float_layers={names[:count]}` the distance "
                    f"is {distance:.2g} on {len(inputs)} of the examples, and "
                    f"the file has {size:.2f} of its size in float."
                )
            count *= 2
        return f"{text} Keeping half of all layers in float does not help."

    def _without(self, tensors):
        """The file in int8 but for the operations with these outputs."""
        from tensorflow.lite.python.convert import mlir_quantize

        with hidden_native_output():
            return mlir_quantize(
                self._content, denylisted_nodes=sorted(tensors)
            )


def _operations(content):
    """Dict of each operation's output to the paths that name its layers.

    An output of the file has a name of its own: there they are those of the
    kernel and bias.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0]
    names = [tensor.name.decode() for tensor in graph.tensors]
    outputs = {i for op in graph.operators for i in op.outputs}
    paths = {}
    for operation in graph.operators:
        for output in operation.outputs:
            constants = [
                names[i]
                for i in operation.inputs
                if i >= 0 and i not in outputs and i not in graph.inputs
            ]
            some = [names[output], *constants]
            paths[names[output]] = next((n for n in some if "/" in n), "")
    return paths


def _path(name, known, single):
    """Names of the models and layers that an operation is in.

    A graph appends numbers to make names unique.
    """
    parts = []
    for part in name.split("/"):
        plain = re.sub(r"_\d+$", "", part)
        parts.append(plain if plain in known else part)
    # An operation has a name to go by where no layer has it.
    return parts[:-1] if len(parts) > 1 and parts[-2] in single else parts


def _answers(content, inputs):
    """Probabilities of a file on batches."""
    from ai_edge_litert.interpreter import Interpreter

    with hidden_native_output():
        runner = Interpreter(model_content=content).get_signature_runner()
    outputs = [runner(**batch)["student_outputs"] for batch in inputs]
    return numpy_softmax(np.concatenate(outputs))


def _distance(found, expected):
    return float(np.abs(found - expected).sum(axis=1).mean() / 2)
