"""One model exported to every format, each file run and compared."""

import re
from pathlib import Path

import keras
import numpy as np

import keras_cascade as kc
from benchmarks.coverage.inputs import FITTED_ON, give_varied_answers
from keras_cascade.export import export_onnx, export_student
from keras_cascade.export.exported_model import ExportedModel
from keras_cascade.export.signature import Signature
from keras_cascade.export.tflite_file import operations
from keras_cascade.export.tflite_student import batch_file
from keras_cascade.export.verification import (
    FLOAT16_TOLERANCE,
    MEAN_DISTANCE,
    TOLERANCE,
)
from keras_cascade.runtime import StudentInterpreter
from keras_cascade.runtime.teachers.saved_model_teacher import SavedModelTeacher
from keras_cascade.utils.numpy_softmax import numpy_softmax

BATCH_SIZES = (1, 2, 7, 64)
#: Column of the table to how the student is stored.
TFLITE = {
    "TFLite float32": None,
    "TFLite float16": "float16",
    "TFLite dynamic": "dynamic",
    "TFLite int8": "int8",
    "TFLite QAT": "qat",
}
COLUMNS = (*TFLITE, "SavedModel", "ONNX student", "ONNX teacher")
#: Examples of the calibration split, and of the training split for QAT.
CALIBRATION, TRAINING, TEST = 64, 64, 64
QAT = {"epochs": 1, "batch_size": 32, "learning_rate": 1e-5}
#: Answers of different inputs must lie so far apart: what a file would differ
#: by that answers the same to everything.
LEAST_SPREAD = 0.3
#: Operations that read a variable, which a student's file has none of.
VARIABLES = re.compile("VAR_HANDLE|READ_VARIABLE|ASSIGN_VARIABLE|CALL_ONCE")


class Candidate:
    """A model of the zoo in both roles of a cascade.

    Args:
        entry: `Entry`.
        folder: path for the files.
    """

    def __init__(self, entry, folder):
        keras.utils.set_random_seed(0)
        self._folder = Path(folder)
        self._calibration = entry.draw(1, CALIBRATION)
        self._training = entry.draw(2, TRAINING)
        self._test = entry.draw(3, TEST)
        model = entry.make()
        give_varied_answers(model, entry.draw(4, FITTED_ON))
        self._cascade = kc.Cascade(model, model)
        answer = self._cascade.predict(self._test, verbose=0)
        # Half of the rows on either side.
        self._cascade.gate.threshold = float(np.median(answer["score"]))
        self._signature = Signature(self._test)
        self._keras = {
            name: keras.ops.convert_to_numpy(value)
            for name, value in kc.gates.StudentWithGate(
                model, self._cascade.gate, self._cascade.classes
            )
            .predict(self._test, verbose=0)
            .items()
        }
        self.parameters = model.count_params()
        others = np.roll(self._keras["probabilities"], 1, axis=0)
        self.spread = _distance(self._keras["probabilities"], others)
        if not self.spread > LEAST_SPREAD:
            raise ValueError(
                "Expected answers that differ from input to input by "
                f"{LEAST_SPREAD} on average. Received: {self.spread:.2g}."
            )

    def measure(self, column):
        """Exports, runs and compares.

        Args:
            column: str, of `COLUMNS`.

        Returns:
            Dict of what was measured of the file.

        Raises:
            ExportError: of the package, where it refuses the model.
            ValueError: the file is not what the package guaranteed.
        """
        if column in TFLITE:
            return self._student(TFLITE[column])
        if column == "SavedModel":
            return self._teacher()
        return self._onnx(column.removeprefix("ONNX "))

    def _labelled(self, x):
        """Labelled as the model itself answers: nothing is to be learned."""
        logits = self._cascade.teacher.predict(x, verbose=0)
        return x, logits.argmax(axis=1)

    def _student(self, quantization):
        file = self._folder / "student.tflite"
        data = {"example_inputs": self._test}
        if quantization == "int8":
            data = {"calibration_data": self._labelled(self._calibration)}
        if quantization == "qat":
            data |= {
                "training_data": self._labelled(self._training),
                "optimization": QAT,
            }
        export_student(self._cascade, file, quantization=quantization, **data)
        built_in, others = operations(file.read_bytes())
        if others or VARIABLES.search(" ".join(built_in)):
            raise ValueError(
                "Expected built-in operations without variables. Received: "
                f"{[*others, *filter(VARIABLES.search, built_in)]}."
            )
        threshold = np.float32(self._cascade.threshold)
        # Of a student that cannot be resized there is a file for many rows.
        whole = batch_file(file)
        comparison = self._compared(
            StudentInterpreter(whole if whole.exists() else file).run,
            quantization,
            threshold,
        )
        return {**comparison, "bytes": file.stat().st_size}

    def _teacher(self):
        folder = self._folder / "teacher"
        exported = ExportedModel("teacher", self._cascade, self._test)
        exported.write_saved_model(folder)
        teacher = SavedModelTeacher(folder)
        comparison = self._compared(
            lambda named: {"logits": teacher.logits(named)}, None, None
        )
        files = [file for file in folder.rglob("*") if file.is_file()]
        return {
            **comparison,
            "bytes": sum(file.stat().st_size for file in files),
        }

    def _onnx(self, part):
        import onnx
        import onnxruntime

        file = self._folder / f"{part}.onnx"
        export_onnx(self._cascade, file, self._test, part=part)
        domains = {node.domain for node in onnx.load(file).graph.node}
        if not domains <= {"", "ai.onnx"}:
            raise ValueError(
                f"Expected ONNX's own operations. Received: {domains}."
            )
        session = onnxruntime.InferenceSession(
            str(file), providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]

        def run(named):
            return dict(zip(names, session.run(names, named), strict=True))

        threshold = np.float32(self._cascade.threshold)
        comparison = self._compared(
            run, None, threshold if part == "student" else None
        )
        return {**comparison, "bytes": file.stat().st_size}

    def _compared(self, run, quantization, threshold):
        """Every output at every batch size, against Keras."""
        named = self._signature.named(self._test)
        whole, largest = None, 0.0
        for size in reversed(BATCH_SIZES):
            rows = np.arange(size)
            answer = run({name: array[:size] for name, array in named.items()})
            if "delegate" in answer:  # 0 or 1 in the files
                answer["delegate"] = answer["delegate"].astype(bool)
            for name, value in answer.items():
                expected = self._keras[name][rows]
                if value.shape != expected.shape or value.dtype != (
                    expected.dtype
                ):
                    raise ValueError(
                        f"Expected '{name}' of {expected.dtype} and shape "
                        f"{expected.shape} at {size} rows. Received: "
                        f"{value.dtype} and {value.shape}."
                    )
                if not np.isfinite(value).all():
                    raise ValueError(f"'{name}' holds NaN at {size} rows.")
            if threshold is not None and not np.array_equal(
                answer["delegate"], answer["score"] < threshold
            ):
                raise ValueError(
                    f"'delegate' is not score < threshold at {size} rows."
                )
            probabilities = answer.get("probabilities")
            if probabilities is None:
                probabilities = numpy_softmax(answer["logits"])
            whole = probabilities if whole is None else whole
            gap = np.abs(probabilities - self._keras["probabilities"][rows])
            largest = max(largest, float(gap.max()))
        whole_keras = self._keras["probabilities"]
        distance = _distance(whole, whole_keras)
        self._check(quantization, largest, distance)
        same = whole.argmax(axis=1) == whole_keras.argmax(axis=1)
        return {
            "max_difference": largest,
            "mean_distance": distance,
            "same_label": float(same.mean()),
            "batch_sizes": list(BATCH_SIZES),
        }

    @staticmethod
    def _check(quantization, largest, distance):
        limits = {None: TOLERANCE, "float16": FLOAT16_TOLERANCE}
        if quantization in limits:
            gap, limit, how = largest, limits[quantization], "up to"
        else:
            gap, limit, how = distance, MEAN_DISTANCE, "on average"
        if not gap <= limit:
            raise ValueError(
                f"Its probabilities differ from those of Keras by {how} "
                f"{gap:.2g}, where at most {limit} is expected."
            )


def _distance(probabilities, expected):
    """Half the sum of the differences, mean over rows: 0 to 1."""
    return float(0.5 * np.abs(probabilities - expected).sum(axis=1).mean())
