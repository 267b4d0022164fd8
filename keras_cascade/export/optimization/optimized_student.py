"""TFLite file of a student that was optimized in the child process."""

import keras
from keras import ops

from keras_cascade.export.converter_settings import ConverterSettings
from keras_cascade.export.quantization import FLOAT32
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
            # "dynamic": the ranges are in the graph; what has none stays in
            # float.
            ConverterSettings("dynamic" if mode.endswith("qat") else FLOAT32),
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
