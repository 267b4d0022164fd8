"""Students in int8 with some of their layers in float.

The converter measures the ranges of activations once. Which layers are then
quantized can be decided again and again, in about a second each.
"""

import numpy as np

from keras_cascade.errors import ExportError
from keras_cascade.export.converter_process import CONVERTER
from keras_cascade.export.operation_layers import OperationLayers
from keras_cascade.export.tflite_file import read
from keras_cascade.utils.native_output import hidden_native_output
from keras_cascade.utils.numpy_softmax import numpy_softmax

#: Layers that an error names by their effect.
MOST_NAMED = 5
#: Share of the accepted distance that the advised layers leave.
MARGIN = 0.5
#: Rows that effects are measured on.
ROWS = 32


class MixedInt8:
    """Quantizes a calibrated file with some of its layers in float.

    Args:
        content: bytes of a file in float with measured ranges, which
            `ConverterSettings` calls `calibrated_only`.
        model: `keras.Model` of the student.

    Attributes:
        layers: dict of name to list of tensors: the outputs of a layer's
            operations. An operation outside of layers has a name of its own.
    """

    def __init__(self, content, model):
        self._content = content
        layers = OperationLayers(model)
        self._paths = layers.paths(read(content).subgraphs[0])
        self.layers = {}
        for name, paths in self._paths.items():
            if paths:
                self.layers.setdefault(layers.layer(paths), []).append(name)

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
        every = set(self._paths)
        distances = {
            name: self._distance(self._without(every - set(tensors)), inputs)
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
        names, count = list(effects), 1
        while count < len(names):
            content = self.quantized(names[:count])
            distance = self._distance(content, inputs)
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
        return CONVERTER.quantize(self._content, sorted(tensors))

    def _distance(self, content, inputs):
        """Mean distance of a file's answers from those in float.

        Both files run on a batch at a time: no answers are kept.
        """
        run, expected = _runner(content), _runner(self._content)
        distances = [
            np.abs(run(batch) - expected(batch)).sum(axis=1) / 2
            for batch in inputs
        ]
        return float(np.concatenate(distances).mean())


def _runner(content):
    """Function from a batch to the probabilities of a file."""
    from ai_edge_litert.interpreter import Interpreter

    with hidden_native_output():
        runner = Interpreter(model_content=content).get_signature_runner()
    return lambda batch: numpy_softmax(runner(**batch)["student_outputs"])
