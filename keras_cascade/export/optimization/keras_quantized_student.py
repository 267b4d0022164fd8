"""Quantization-aware training in Keras 3, of students that TFMOT refuses."""

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_cascade.datasets.batches import rows_of, take_rows
from keras_cascade.errors import ExportError
from keras_cascade.export.operation_layers import OperationLayers
from keras_cascade.export.optimization.fake_quantization import (
    FakeQuantizedModel,
)
from keras_cascade.export.optimization.fine_tuner import Examples, FineTuner
from keras_cascade.export.quantization import REPRESENTATIVE
from keras_cascade.export.tflite_file import OPERATION_NAMES, code_of, read
from keras_cascade.export.tflite_student import TFLiteStudent
from keras_cascade.gates import StudentWithGate
from keras_cascade.utils.serialized_model import serialized_model

#: Of a copy's answers. It has the same weights.
TOLERANCE = 1e-4
_OPERATOR = schema.BuiltinOperator
#: Between integers and floats, at the edges of what is in 8 bits.
_EDGES = (_OPERATOR.QUANTIZE, _OPERATOR.DEQUANTIZE, _OPERATOR.CAST)


class KerasQuantizedStudent(TFLiteStudent):
    """TFLite file of a student that was trained on in simulated 8 bits.

    A copy of the student is trained, as `FakeQuantizedModel` says, by the
    cascade's own policy. Then the converter makes an int8 file of the copy,
    like any student's: the ranges of weights are those of the training, and
    the ranges of activations are measured by the converter on 400 of the
    training examples, for every operation that has 8 bits, those between the
    simulated layers included. The simulation itself is not in the file.

    Args:
        student_with_gate: `StudentWithGate` of the cascade.
        policy: `DistillationPolicy` of logits and labels.
        inputs: array or dict of arrays, the training examples.
        labels: int32 array `(examples,)`.
        teacher_logits: float32 array `(examples, classes)`.
        sample_weight: float32 array `(examples,)`, or `None`.
        signature: `Signature` of the file.
        options: dict of `epochs`, `batch_size`, `learning_rate`, `seed`.

    Attributes:
        history: dict of `"before"` to the loss of the float student, in a
            list, and of `"qat"` to the mean losses, one per epoch.
        left_in_float: list of `(layer name, reason)`: layers with operations
            that TFLite has in float only.

    Raises:
        ExportError: the student cannot be copied or converted, or the
            training diverged.
    """

    tool = "keras"

    def __init__(
        self,
        student_with_gate,
        policy,
        inputs,
        labels,
        teacher_logits,
        sample_weight,
        signature,
        options,
    ):
        examples = take_rows(inputs, slice(0, 8))
        copy = copied_student(student_with_gate.student, examples)
        names = list(inputs) if isinstance(inputs, dict) else None
        arrays = [inputs] if names is None else list(inputs.values())
        tuner = _KerasFineTuner(
            policy,
            Examples(
                list(map(np.asarray, arrays)),
                labels,
                teacher_logits,
                sample_weight,
            ),
            **options,
        )
        keras.utils.set_random_seed(options["seed"])
        model = FakeQuantizedModel(copy, names)
        self.history = {"before": [tuner.evaluate(model)]}
        with model.simulated():
            self.history["qat"] = tuner.train(model)
        if not all(np.isfinite(self.history["qat"])):
            raise ExportError(
                "Fine-tuning diverged: the loss is not a number. Pass a "
                f"smaller `learning_rate` than {options['learning_rate']}."
            )
        rows = np.random.default_rng(options["seed"]).permutation(
            rows_of(inputs)
        )[:REPRESENTATIVE]
        super().__init__(
            StudentWithGate(
                copy, student_with_gate.gate, student_with_gate.classes
            ),
            examples,
            "int8",
            [take_rows(inputs, slice(row, row + 1)) for row in rows],
            signature,
        )
        self.quantization = "qat"
        self.left_in_float = _in_float(self._student_part, copy)


class _KerasFineTuner(FineTuner):
    """Fine-tunes a Keras 3 model on TensorFlow."""

    def train(self, model):
        """Trains a model; returns the mean losses, one per epoch.

        Args:
            model: `FakeQuantizedModel`.
        """
        import tensorflow as tf

        variables = list(model.trainable_variables)
        optimizer = keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                self.learning_rate, self.steps
            )
        )
        optimizer.build(variables)

        @tf.function
        def step(*batch):
            with tf.GradientTape() as tape:
                loss, rows = self.loss(model, batch, training=True)
            gradients = tape.gradient(loss, [v.value for v in variables])
            # Of what the outputs do not depend on there is none.
            pairs = [
                (gradient, variable)
                for gradient, variable in zip(gradients, variables, strict=True)
                if gradient is not None
            ]
            optimizer.apply_gradients(pairs)
            return loss, rows

        return self.run(step)


def copied_student(student, examples):
    """Copy of a model with the same layers' names and the same weights.

    Args:
        student: built `keras.Model`.
        examples: some of its inputs.

    Raises:
        ExportError: Keras cannot make the model again from its config, or the
            copy answers otherwise.
    """
    config = serialized_model(student)
    config.pop("compile_config", None)
    classes = {
        kind.__name__: kind
        for layer in student._flatten_layers()
        if not (kind := type(layer)).__module__.startswith("keras.src")
    }
    try:
        # Nothing was read from a file: these functions are the user's own.
        copy = keras.saving.deserialize_keras_object(
            config, custom_objects=classes, safe_mode=False
        )
        copy(examples, training=False)  # builds what has no shape yet
        copy.set_weights(student.get_weights())
    except Exception as error:
        what, error = _not_made_again(student) or (
            f"'{student.name}' ({type(student).__name__})",
            error,
        )
        text = " ".join(str(error).split())[:300]
        raise ExportError(
            "Quantization-aware training trains a copy of the student. "
            "Expected: a model that Keras can make again from its config, as "
            f"`keras.models.load_model` does. Received: {what}, for which that "
            f"fails: {text} Give its class a `get_config`, or use "
            "quantization='dynamic', 'int8' or 'float16', which take the "
            "student as it is."
        ) from error
    expected, found = (
        keras.ops.convert_to_numpy(model(examples, training=False))
        for model in (student, copy)
    )
    if found.shape != expected.shape or not np.allclose(
        found, expected, rtol=1e-3, atol=TOLERANCE
    ):
        raise ExportError(
            "Quantization-aware training trains a copy of the student, and "
            f"the copy that Keras made of '{student.name}' answers "
            "otherwise. Expected: a `get_config` that holds everything that "
            "its answers depend on. Use quantization='dynamic', 'int8' or "
            "'float16', which take the student as it is."
        )
    return copy


def _not_made_again(student):
    """`(name, error)` of the first layer that its config does not make."""
    for layer in student._flatten_layers(include_self=False):
        if isinstance(layer, keras.Model):
            continue
        try:
            type(layer).from_config(layer.get_config())
        # Whatever a user's class raises.
        except Exception as error:
            return f"layer '{layer.name}' ({type(layer).__name__})", error
    return None


def _in_float(content, model):
    """Layers with operations on floats: list of `(layer, why)`."""
    file, layers = read(content), OperationLayers(model)
    whys = {}
    for graph in file.subgraphs:
        paths = layers.paths(graph)
        for operator in graph.operators:
            code = code_of(file, operator)
            outputs = [graph.tensors[number] for number in operator.outputs]
            if code in _EDGES or not any(
                tensor.type == schema.TensorType.FLOAT32 for tensor in outputs
            ):
                continue
            found = paths.get(outputs[0].name.decode())
            layer = layers.layer(found) if found else OPERATION_NAMES[code]
            whys.setdefault(layer, set()).add(OPERATION_NAMES[code])
    return [
        (layer, f"no 8 bits for {', '.join(sorted(names))}")
        for layer, names in whys.items()
    ]
