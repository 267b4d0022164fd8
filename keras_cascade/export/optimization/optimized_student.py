"""TFLite file of a student that was optimized in the child process."""

import keras
from keras import ops

from keras_cascade.export.tflite_student import LinkedStudent
from keras_cascade.utils.tensor_ops import as_float


class OptimizedStudent(LinkedStudent):
    """Result of `optimize_student`; `convert` returns the TFLite file.

    Args:
        student_with_gate: `StudentWithGate` of the cascade.
        mode: str, of `optimize_student`.
        graph: `StudentGraph`.
        loaded: loaded SavedModel whose `run` maps inputs to outputs by name.
        signature: `keras_cascade.export.signature.Signature`.
        results: dict that the child wrote.

    Attributes:
        left_in_float: list of `(layer name, reason)`: layers that the
            optimization does not support and left unchanged.
        history: dict of stage (`"prune"`, `"cluster"`, `"qat"`) to list of
            mean losses, one per epoch; `"before"` holds the loss of the float
            student over the same examples, in inference.
        sparsity: dict of layer name to share of zeros in its kernel.
        clusters: dict of layer name to distinct values of its kernel, in the
            channel that has most where each has a scale of its own.
        versions: dict of package to version, in the child.
    """

    tool = "tensorflow-model-optimization"

    def __init__(
        self, student_with_gate, mode, graph, loaded, signature, results
    ):
        super().__init__(student_with_gate, mode)
        self.left_in_float = [tuple(pair) for pair in results["left_in_float"]]
        self.history = results["history"]
        self.sparsity = results["sparsity"]
        self.clusters = results["clusters"]
        self.versions = results["versions"]
        self._graph = graph
        self._loaded = loaded
        self.convert_student(
            self._student,
            signature,
            [loaded],
            self._settings,
            self.gate_inputs(
                *keras.tree.map_structure(
                    lambda name: graph.values[name].astype("float32"),
                    [graph.output, graph.features],
                )
            ),
            {
                spec["name"]: tuple(spec["shape"][1:])
                for spec in signature.describe()
            },
        )

    def content(self) -> bytes:
        """The TFLite file with the threshold that the gate has now."""
        return self.convert(self.student_with_gate.gate.threshold)

    def describe(self) -> dict:
        return {
            **super().describe(),
            "left_in_float": [
                {"layer": layer, "why": reason}
                for layer, reason in self.left_in_float
            ],
        }

    def _student(self, inputs, training):
        """The student, on inputs as its own input layers would take them."""
        graph, tensors = self._graph, {}
        for name, tensor in graph.named(inputs).items():
            spec = graph.inputs[name]
            tensor = ops.cast(tensor, spec["dtype"])
            if len(tensor.shape) == len(spec["shape"]):
                tensor = ops.expand_dims(tensor, -1)
            tensors[name] = tensor
        outputs = self._loaded.run(tensors)
        return self.gate_inputs(
            as_float(outputs[graph.output]),
            {
                layer: as_float(outputs[name])
                for layer, name in graph.features.items()
            },
        )

    def _settings(self, converter):
        import tensorflow as tf

        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if self.quantization.endswith("qat"):
            # The ranges are in the graph; what has none stays in float.
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
