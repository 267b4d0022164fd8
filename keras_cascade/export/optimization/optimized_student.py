"""A student after optimization, ready to become a TFLite file."""

import tempfile

import numpy as np
from keras import ops

from keras_cascade.export.signature import Signature
from keras_cascade.export.tflite_conversion import convert_to_tflite
from keras_cascade.export.tflite_linking import link
from keras_cascade.runtime.student_interpreter import OUTPUTS
from keras_cascade.utils.tensor_ops import as_float

STUDENT_OUTPUTS = "student_outputs"


class OptimizedStudent:
    """What `optimize_student` found; `convert` makes the file.

    Student and gate are converted apart and linked, as in a `StudentFile`:
    the gate computes in float on dequantized logits, and a new threshold
    leaves every score as it is.

    Args:
        graph: `StudentGraph`.
        loaded: loaded SavedModel whose `run` maps inputs to outputs by name.
        cascade: the `Cascade`, for its student and gate.
        classes: int, number of classes.
        signature: `keras_cascade.export.signature.Signature`.
        quantized: bool, whether it was trained for int8.
        results: dict that the child wrote.

    Attributes:
        left_in_float: list of `(layer name, why)`: layers that the
            optimization could not take and left as they were.
        history: dict of stage (`"prune"`, `"cluster"`, `"qat"`) to list of
            mean losses, one an epoch; `"before"` holds the loss of the float
            student over the same examples, in inference.
        sparsity: dict of layer name to share of zeros in its kernel.
        clusters: dict of layer name to distinct values of its kernel, in the
            channel that has most where each has a scale of its own.
        versions: dict of package to version, in the child.
    """

    def __init__(
        self, graph, loaded, cascade, classes, signature, quantized, results
    ):
        self._graph = graph
        self._loaded = loaded
        self._student = cascade.student
        self._gate = cascade.gate
        self._classes = classes
        self.left_in_float = [tuple(pair) for pair in results["left_in_float"]]
        self.history = results["history"]
        self.sparsity = results["sparsity"]
        self.clusters = results["clusters"]
        self.versions = results["versions"]
        #: Name of an output of the student's part to name in the graph.
        self._shown = {
            STUDENT_OUTPUTS: graph.output,
            **{
                f"feature_{number}": graph.features[layer]
                for number, layer in enumerate(self._gate.student_layers)
            },
        }
        self._content = self._converted(
            signature, self._run, [loaded], quantized
        )

    def convert(self, threshold):
        """The TFLite file, with the gate in float on dequantized logits.

        Args:
            threshold: float. `delegate` is `not (score >= threshold)`.

        Returns:
            Bytes.

        Raises:
            ExportError: the gate needs operations that TFLite lacks.
        """
        gate = _copied(self._gate)
        gate.threshold = threshold
        examples = {
            shown: self._graph.values[name].astype("float32")
            for shown, name in self._shown.items()
        }

        def answer(shown, training):
            features = {
                layer: shown[f"feature_{number}"]
                for number, layer in enumerate(gate.student_layers)
            }
            outputs = shown[STUDENT_OUTPUTS]
            score = gate(outputs, features=features or None)
            logits = gate.class_logits(outputs, self._classes)
            values = ops.softmax(logits, axis=-1), score, gate.delegate(score)
            return dict(zip(OUTPUTS, values, strict=True))

        answer(examples, False)  # builds a gate that was never called
        gate_file = self._converted(Signature(examples), answer, [gate], False)
        return link(self._content, gate_file)

    def content(self):
        """The TFLite file, with the cascade's threshold as it is now."""
        return self.convert(self._gate.threshold)

    def _run(self, inputs, training):
        """The student, on inputs as its own input layers would take them."""
        given = {}
        for name, tensor in self._graph.named(inputs).items():
            spec = self._graph.inputs[name]
            tensor = ops.cast(tensor, spec["dtype"])
            if len(tensor.shape) == len(spec["shape"]):
                tensor = ops.expand_dims(tensor, -1)
            given[name] = tensor
        found = self._loaded.run(given)
        return {
            shown: as_float(found[name]) for shown, name in self._shown.items()
        }

    def _converted(self, signature, model, tracked, quantized):
        def settings(converter):
            import tensorflow as tf

            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.TFLITE_BUILTINS
            ]
            if quantized:
                # The ranges are in the graph; what has none stays in float.
                converter.optimizations = [tf.lite.Optimize.DEFAULT]

        with tempfile.TemporaryDirectory() as folder:
            signature.write_saved_model(
                folder, model, lambda outputs: outputs, tracked
            )
            return convert_to_tflite(folder, settings, self._student)


def _copied(gate):
    """The gate as it is now, to be given another threshold."""
    made = type(gate).from_config(gate.get_config())
    if gate.built and not made.built:
        made.build_from_config(gate.get_build_config())
    for here, there in zip(made.weights, gate.weights, strict=True):
        here.assign(np.asarray(ops.convert_to_numpy(there)))
    return made
