"""One export of a cascade: models, data and options."""

import dataclasses
import functools
import re
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import keras
import numpy as np

from keras_cascade import calibration
from keras_cascade.calibration import (
    OperatingPoint,
    calibrate,
    measure_threshold,
)
from keras_cascade.calibration.thresholds import joint_objectives
from keras_cascade.datasets.batches import concatenate_rows, take_rows
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.errors import ExportError
from keras_cascade.evaluation.delegated_at import delegated_at
from keras_cascade.export.exported_model import ExportedModel
from keras_cascade.export.file_inputs import (
    INT8,
    UINT8,
    check_input_types,
    pixel_inputs,
)
from keras_cascade.export.float32_models import in_float32
from keras_cascade.export.quantization import (
    TRAINING,
    checked_quantization,
    representative_inputs,
)
from keras_cascade.export.signature import Signature
from keras_cascade.export.student_artifact import StudentArtifact
from keras_cascade.export.tabular_layers import check_tabular_layers
from keras_cascade.export.targets import (
    MICROCONTROLLER,
    check_target,
    checked_targets,
)
from keras_cascade.export.tflite_student import TFLiteStudent
from keras_cascade.export.verification import (
    MEAN_DISTANCE,
    Comparison,
    MovedAnswersError,
    check_decisions,
    check_rows_alone,
    check_sizes,
    compare,
)
from keras_cascade.models.preprocessed_model import PreprocessedModel
from keras_cascade.prediction import inference
from keras_cascade.runtime.operating_points import DEFAULT
from keras_cascade.text.text_columns import as_text_arrays
from keras_cascade.utils.answer_form import AnswerForm
from keras_cascade.utils.numpy_top_k import TopKRows, top_k_arrays

if TYPE_CHECKING:
    from keras_cascade.cascade import Cascade

#: With more classes, fine-tuning keeps not all of the teacher's logits.
MANY_CLASSES = 1024
#: How many it keeps of each example.
KEPT_LOGITS = 64
OPERATING_POINT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class ExportJob:
    """A cascade with the data, signature and options of one export.

    Args:
        cascade: `Cascade`; prepared here, otherwise unchanged.
        calibration_data: held-out labelled examples that can be read twice.
            Defaults to `None`: files are not compared on examples.
        example_inputs: a batch of inputs. Defaults to `None`: the first rows
            of `calibration_data`.
        batch_size: int, with arrays. Defaults to `256`.
        quantization: of `export_student`. Defaults to `None`.
        allow_training_data: of `export_student`. Defaults to `False`.
        training_data: of `export_student`. Defaults to `None`.
        optimization: of `export_student`. Defaults to `None`.
        operating_points: of `export_bundle`. Defaults to `None`.
        joint: of `export_bundle`. Defaults to `False`.
        float_layers: of `export_bundle`. Defaults to `()`.
        input_shape: of `Signature`. Defaults to `None`.
        io_type: of `export_student`. Defaults to `None`.
        input_type: of `export_student`. Defaults to `None`.
        targets: of `export_student`. Defaults to `()`.

    Attributes:
        data: `LabelledData`, or `None` without `calibration_data`.
        quantization: str.
        signature: `Signature` of the cascade's inputs; it takes in the value
            ranges of all examples that a file is compared on.
        student: `ExportedModel`, the student as it is converted.
        teacher: `ExportedModel`, the teacher as it is converted.

    Raises:
        ValueError: the gate must be fitted first; arguments that are not
            valid.
    """

    def __init__(
        self,
        cascade: "Cascade",
        calibration_data: Any = None,
        example_inputs: Any = None,
        batch_size: int = 256,
        quantization: str | None = None,
        allow_training_data: bool = False,
        training_data: Any = None,
        optimization: dict | None = None,
        operating_points: Any = None,
        joint: bool = False,
        float_layers: Sequence[str] = (),
        input_shape: Any = None,
        io_type: str | None = None,
        input_type: str | None = None,
        targets: str | Sequence[str] = (),
    ):
        self.cascade = cascade
        self.quantization = checked_quantization(quantization)
        check_input_types(io_type, input_type, self.quantization)
        self._io_type, self._input_type = io_type, input_type
        self._targets = checked_targets(targets, self.quantization)
        self.allow_training_data = allow_training_data
        self._training_data = training_data
        self._optimization = optimization or {}
        self._float_layers = _checked_float_layers(float_layers, quantization)
        self._objectives = _checked_objectives(operating_points)
        self._default = None
        calibrated = cascade.operating_point
        if calibrated is not None and calibrated.objective is not None:
            self._default = calibration.deserialize(calibrated.objective)
        if joint:
            every = joint_objectives(
                {DEFAULT: self._default, **self._objectives}
                if self._default is not None
                else self._objectives
            )
            self._default = every.pop(DEFAULT, None)
            self._objectives = every
        cascade.gate.check_ready()
        self._check_task()
        self.data: LabelledData | None = None
        if calibration_data is not None:
            self.data = LabelledData.from_argument(
                calibration_data, batch_size=batch_size
            )
            self.data.require_second_pass("calibration data")
            if example_inputs is None:
                example_inputs = self.data.first_rows()
        self._example_inputs = example_inputs
        if example_inputs is not None:
            self._example_inputs = as_text_arrays(example_inputs)
            cascade.prepare(self._example_inputs)
        if self.data is not None:
            self.data = cascade.labelled(self.data)
        self._input_shape = input_shape

    def in_float32(self):
        """Context in which both models compute in float32, as files do."""
        return in_float32(self.cascade.teacher, self.cascade.student)

    @property
    def example_inputs(self):
        """A batch of the cascade's inputs.

        Raises:
            ValueError: the export has neither inputs nor data.
        """
        if self._example_inputs is None:
            raise ValueError(
                "Expected `example_inputs`, a batch of inputs: they give "
                "names, shapes and types, and this cascade has seen none yet."
            )
        return self._example_inputs

    @functools.cached_property
    def signature(self) -> Signature:
        """Signature of the cascade's inputs."""
        return self._signature()

    @functools.cached_property
    def student(self) -> ExportedModel:
        """The student as it is converted."""
        return self._exported("student")

    @functools.cached_property
    def teacher(self) -> ExportedModel:
        """The teacher as it is converted."""
        return self._exported("teacher")

    @functools.cached_property
    def answers(self) -> AnswerForm:
        """`AnswerForm` of the cascade's answers.

        Sizes of an answer that follow from free sizes of the inputs are free.
        """
        task = self.cascade.task
        if task.one_class_per_example:
            return AnswerForm((self.cascade.classes,))
        run = self.cascade.two_stage_pass().run_student
        x = take_rows(self.example_inputs, slice(0, 1))
        shapes = [run(x)[task.answer_name].shape[1:]]
        if self.signature.is_free:
            resized = self.signature.resized(x, 2.0)
            shapes.append(run(resized)[task.answer_name].shape[1:])
        sizes = tuple(
            one[0] if len(set(one)) == 1 else None
            for one in zip(*shapes, strict=True)
        )
        return AnswerForm(sizes, task.activation, False)

    def _check_task(self):
        """Raises where files of another task than classes are not made."""
        task = self.cascade.task
        if task.one_class_per_example:
            return
        unable = {
            f"quantization={self.quantization!r}": (
                self.quantization in TRAINING,
                "It trains the student on with a distillation of classes. "
                "Choose None, 'float16', 'dynamic', 'int8' or 'int4'.",
            ),
            f"float_layers={self._float_layers!r}": (
                bool(self._float_layers),
                "It measures classes. Choose 'dynamic' or 'float16' where "
                "'int8' moves the answers too far.",
            ),
            "targets='microcontroller'": (
                MICROCONTROLLER in self._targets,
                "The readers for it read classes.",
            ),
        }
        for argument, (asked, reason) in unable.items():
            if asked:
                raise ValueError(
                    f"Expected no {argument} with {task!r}. {reason}"
                )

    def student_artifact(self):
        """TFLite artifact of the student and its gate, as it is shipped.

        A student that takes inputs of several sizes is run at several. Where
        TFLite cannot do that, the sizes become those of the data, with a
        warning. Its inputs have the types that were asked for, and the
        targets have its operations.

        Returns:
            `StudentArtifact`.

        Raises:
            ExportError: the student cannot be converted, or is not for a
                target.
        """
        artifact = self.artifact_in(self.quantization)
        if self._io_type == INT8:
            artifact.take_int8()
        if self._input_type == UINT8:
            pixels = pixel_inputs(self)
            if pixels:
                artifact.take_pixels(pixels)
        for target in self._targets:
            check_target(target, artifact, self.cascade.gate.decision_threshold)
        return artifact

    def artifact_in(self, quantization: str):
        """TFLite artifact whose inputs are those of the cascade.

        Args:
            quantization: str.

        Returns:
            `StudentArtifact`.

        Raises:
            ExportError: the student cannot be converted.
        """
        trains = quantization if quantization in TRAINING else None
        check_tabular_layers(self.student.model, trains)
        if trains:
            self._fix_sizes()
            return self._optimized_artifact(quantization)
        try:
            return self._converted(quantization)
        except ExportError as error:
            if not self.student.signature.is_free or self.student.reader:
                raise
            free = self._named_sizes()
            self._fix_sizes(error)
            artifact = self._converted(quantization)
            warnings.warn(
                f"The file takes inputs of the sizes {self._named_sizes()} "
                f"only, those of the data, where the models take {free}: "
                f"TFLite cannot convert that. Pass `input_shape` to choose "
                f"other sizes. {str(error)[:300]}",
                stacklevel=4,
            )
            return artifact

    def check_sizes(self, artifact: StudentArtifact, path):
        """Compares a student's file with Keras at several sizes of its inputs.

        Args:
            artifact: `StudentArtifact`.
            path: `Path` of a file that it has written.

        Raises:
            ExportError: the file does not answer as Keras does.
        """
        check_sizes(
            artifact.open(path),
            self.cascade.two_stage_pass().run_student,
            self.example_inputs,
            self.signature,
            self.answers,
            artifact.quantization,
        )

    def _signature(self):
        return Signature(
            self.example_inputs,
            (self.cascade.student, self.cascade.teacher),
            self._input_shape,
        )

    def _exported(self, role):
        return ExportedModel(
            role, self.cascade, self.example_inputs, self._input_shape
        )

    def _converted(self, quantization):
        """TFLite artifact, run at several sizes where they are free."""
        representative: Sequence[Any] = ()
        if quantization == "int8":
            representative = [
                self.student.inputs(x)
                for x in representative_inputs(cast("LabelledData", self.data))
            ]
        try:
            artifact = TFLiteStudent(
                self.student.with_gate,
                self.student.inputs(self.example_inputs),
                quantization,
                representative,
                self.student.signature,
                self._float_layers if quantization == "int8" else (),
                self.student.row_shapes,
            )
        except ExportError as error:
            if not isinstance(self.cascade.student, PreprocessedModel):
                raise
            raise ExportError(
                "The preprocessor that the student brings cannot be shipped: "
                "it runs inside of the student's file. Build the student "
                "without its `preprocessor` and give it inputs that are "
                "preprocessed, or let its converter resize without "
                f"antialiasing. {error}"
            ) from error
        if self.signature.is_free:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, "student.tflite")
                self.check_sizes(
                    artifact,
                    artifact.write(file, self.cascade.gate.decision_threshold),
                )
        return artifact

    def _fix_sizes(self, error=None):
        """Gives every input the sizes of the data.

        Args:
            error: `ExportError` that the free sizes led to. Defaults to
                `None`.

        Raises:
            ExportError: the data has several sizes.
        """
        if not self.signature.is_free:
            return
        shapes = self.signature.row_shapes(self.example_inputs)
        others = [
            other
            for x, _, _ in (self.data.batches() if self.data else ())
            if (other := self.signature.row_shapes(x)) != shapes
        ]
        if others:
            raise ExportError(
                "The student's free sizes cannot be converted, and the data "
                f"has several: {shapes} and {others[0]}. Pass `input_shape`, "
                "and data of that size."
            ) from error
        self._input_shape = shapes
        for name in ("signature", "student", "teacher", "answers"):
            vars(self).pop(name, None)

    def _named_sizes(self):
        """Sizes of one example by input name, for messages."""
        return {
            spec["name"]: tuple(spec["shape"][1:])
            for spec in self.signature.describe()
        }

    def write_student(
        self, artifact: StudentArtifact, path
    ) -> tuple[OperatingPoint, Comparison]:
        """Writes a student's file with a threshold fitted on its own scores.

        The file is run over the calibration data; its answers are compared
        with Keras, and the cascade's objective is fitted again on its scores.
        Where that moves the threshold, the file is written once more. In any
        case it is run once more: its scores must be the same, and its
        decisions those of `score < threshold`. The cascade keeps its own
        threshold.

        Args:
            artifact: `StudentArtifact`.
            path: `Path` to write.

        Returns:
            `(OperatingPoint, Comparison)`.

        Raises:
            ExportError: the file does not answer as Keras does.
            ValueError: no threshold meets the objective on the file.
        """
        cascade = self.cascade
        data = cast("LabelledData", self.data)
        two_stages = cascade.two_stage_pass()
        whole = artifact.write(path, cascade.gate.decision_threshold)
        try:
            comparison = compare(
                self.student.as_served(artifact.open(whole)),
                two_stages,
                data.checked_batches(cascade.check_labels),
                self.signature,
                self.answers,
                artifact.quantization,
                cascade.data_record.traffic,
            )
        except MovedAnswersError as error:
            advice = ""
            if self.answers.one_class:
                advice = artifact.advice(MEAN_DISTANCE)
            raise ExportError(f"{error} {advice}".strip()) from error
        results = comparison.results
        calibrated = cascade.operating_point
        guaranteed = calibrated is not None and calibrated.guarantees
        self._refuse(
            results,
            "training",
            *(("validation",) if guaranteed else ()),
            "gate",
        )
        point = _operating_point(
            cascade,
            self._default,
            results,
            f"{path.name} in {artifact.quantization}",
        )
        if point.decision_threshold != cascade.gate.decision_threshold:
            whole = artifact.write(path, point.decision_threshold)
        check_decisions(
            self.student.as_served(artifact.open(whole)),
            data.checked_batches(cascade.check_labels),
            self.signature,
            point.decision_threshold,
            comparison,
            self.answers,
        )
        if whole != path:
            comparison.alone_difference = check_rows_alone(
                artifact.open(path),
                artifact.open(whole),
                self.student,
                data.checked_batches(cascade.check_labels),
                self.answers,
                artifact.quantization,
            )
        return point, comparison

    def named_points(self, results) -> list[OperatingPoint]:
        """Cheapest threshold of a file per further operating point.

        Where the cascade was calibrated with a threshold for each predicted
        class, so is every operating point.

        Each guarantee holds with its own confidence; that all hold at once is
        guaranteed with `joint` only, which splits the error over them.

        Args:
            results: `ExampleResults`, the student's columns of the file.

        Raises:
            ValueError: no threshold of the file meets one of the objectives.
        """
        points = []
        record = self.cascade.data_record
        for name, objective in self._objectives.items():
            if objective.guarantees():
                self._refuse(results, "validation")
            try:
                point = calibrate(
                    results,
                    objective,
                    self.cascade.costs,
                    record.traffic,
                    record.seed,
                    class_names=record.class_names,
                    **_per_class(self.cascade.operating_point),
                )
            except ValueError as error:
                raise ValueError(
                    f"No threshold of the file that would ship meets the "
                    f"operating point '{name}', so nothing was written. {error}"
                ) from error
            points.append(dataclasses.replace(point, name=name))
        return points

    def _refuse(self, results, *uses):
        if not self.allow_training_data:
            self.cascade.data_record.refuse(results.examples, *uses)

    def _optimized_artifact(self, mode):
        """Artifact of the student, fine-tuned from its teacher's logits.

        The training examples are read into memory, with the teacher's logits
        or, of more than `MANY_CLASSES`, the `KEPT_LOGITS` largest of each.
        """
        if self.student.reader is not None:
            raise ExportError(
                f"quantization='{mode}' trains students of numbers on. "
                "Received one of texts. Use 'dynamic', 'int8' or 'float16'."
            )
        if self._training_data is None:
            raise ValueError(
                f"Expected `training_data` for quantization='{mode}', which "
                "trains the student on. Received none. Pass the examples that "
                "it was trained on, or choose 'float16', 'dynamic' or 'int8'."
            )
        from keras_cascade.export.optimization.optimize_student import (
            check_optimizable,
            optimize_student,
        )

        check_optimizable(
            self.cascade, mode, self.example_inputs, self._optimization
        )
        inputs, labels, weight, logits = [], [], [], []
        run_teacher = inference(self.cascade.teacher)
        data = LabelledData.from_argument(self._training_data)
        data = self.cascade.labelled(data)
        for x, y, w in data.checked_batches(self.cascade.check_labels):
            answer = run_teacher(x)
            answer = answer["logits"] if isinstance(answer, dict) else answer
            classes = answer.shape[1]
            logits.append(
                top_k_arrays(answer, KEPT_LOGITS)
                if classes > MANY_CLASSES
                else answer
            )
            inputs.append(keras.tree.map_structure(np.asarray, x))
            labels.append(np.reshape(y, -1))
            weight.append(w)
        return optimize_student(
            self.cascade,
            mode,
            concatenate_rows(inputs),
            np.concatenate(labels),
            TopKRows.joined(logits, classes)
            if classes > MANY_CLASSES
            else np.concatenate(logits),
            self._signature(),
            sample_weight=None if weight[0] is None else np.concatenate(weight),
            **self._optimization,
        )


def _operating_point(cascade, objective, results, file):
    """The cascade's objective, met again on the file's own scores.

    Where that decides as the cascade's threshold does, the threshold stays.
    A threshold that was set by hand is measured only.
    """
    measured = measure_threshold(
        results.scores,
        results.student_correct,
        results.teacher_correct,
        cascade.gate.decision_threshold,
        sample_weight=results.sample_weight,
        costs=cascade.costs,
        student_labels=results.student_labels,
        loss_name=results.loss_name,
    )
    if objective is None:
        return measured
    try:
        fitted = calibrate(
            results,
            objective,
            cascade.costs,
            cascade.data_record.traffic,
            cascade.data_record.seed,
            class_names=cascade.data_record.class_names,
            **_per_class(cascade.operating_point),
        )
    except ValueError as error:
        raise ValueError(
            f"No threshold of the file that would ship ({file}) meets what "
            "the cascade was calibrated for, so nothing was written. "
            f"{error}"
        ) from error
    same = [
        delegated_at(
            results.scores, one.decision_threshold, results.student_labels
        )
        for one in (fitted, measured)
    ]
    if np.array_equal(*same):
        return dataclasses.replace(
            fitted,
            threshold=measured.threshold,
            class_thresholds=measured.class_thresholds,
        )
    return fitted


def _per_class(point):
    """Arguments of `calibrate` for thresholds as those of a point."""
    if point is None or point.class_thresholds is None:
        return {}
    return {"per_class": True, "min_class_examples": point.min_class_examples}


def _checked_float_layers(float_layers, quantization):
    """List of names of layers."""
    names = [float_layers] if isinstance(float_layers, str) else float_layers
    names = [str(name) for name in names]
    if names and quantization != "int8":
        raise ValueError(
            "Expected `float_layers` with quantization='int8', whose other "
            f"layers are quantized. Received: quantization={quantization!r}."
        )
    return names


def _checked_objectives(operating_points):
    """Dict of name to `Objective`.

    Args:
        operating_points: dict of name to objective, or list of objectives
            that are all met; or `None`.
    """
    objectives = {}
    for name, objective in (operating_points or {}).items():
        valid = isinstance(name, str) and OPERATING_POINT_NAME.fullmatch(name)
        if name == DEFAULT or not valid:
            raise ValueError(
                "Expected names of operating points out of letters, digits, "
                "'_', '.' and '-', and not 'default', which is what "
                f"`calibrate` found. Received: {name!r}."
            )
        objectives[name] = calibration.get(objective)
    return objectives
