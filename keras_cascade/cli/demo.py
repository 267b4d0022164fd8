"""The whole line once, on real data: train, calibrate, export, serve, use."""

import dataclasses
import time
from pathlib import Path

import keras
import numpy as np

from keras_cascade import MaxDelegationRate, datasets, models
from keras_cascade.cli.training import (
    batched,
    check_images,
    train_cascade,
    train_teacher,
)
from keras_cascade.datasets.batches import iterate_batches
from keras_cascade.evaluation import deferral_curve
from keras_cascade.evaluation.report import write_report
from keras_cascade.runtime import EdgeCascade
from keras_cascade.serving import ServerProcess
from keras_cascade.version import __version__

EDGE_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and epochs that suit a data set."""

    batch_size: int
    teacher_width: int
    teacher_epochs: int
    student_width: int
    student_epochs: int
    max_delegation_rate: float


SMALL = Settings(64, 16, 20, 8, 60, 0.20)
USUAL = Settings(128, 24, 5, 8, 8, 0.25)
SMALL_DATA = 5_000


def run_demo(
    dataset, output, console, distillation="standard", max_delegation_rate=None,
    seed=0, overwrite=False,
):  # fmt: skip
    """Runs the demo.

    Args:
        dataset: str, data spec of images.
        output: folder for the bundle, the report and the server's log.
        console: `rich.console.Console` for progress.
        distillation: name of a policy. Defaults to `"standard"`.
        max_delegation_rate: float in [0, 1], or `None` for the data set's
            own. Defaults to `None`.
        seed: int. Defaults to `0`.
        overwrite: bool. Replaces an earlier bundle. Defaults to `False`.

    Returns:
        Dict, as in `report.json`.
    """
    clock = _Clock()
    keras.utils.set_random_seed(seed)
    splits = datasets.load(dataset, seed)
    check_images(splits)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    settings = SMALL if splits.sizes["train"] < SMALL_DATA else USUAL
    rate = max_delegation_rate
    rate = settings.max_delegation_rate if rate is None else rate
    objective = MaxDelegationRate(rate)
    sizes = ", ".join(f"{n:,} {name}" for name, n in splits.sizes.items())
    console.print(f"[bold]{dataset}[/bold]: {sizes} examples ({splits.how}).")

    data = batched(splits, settings.batch_size)
    clock.start("train_teacher")
    teacher = train_teacher(
        splits, data, console, settings.teacher_width, settings.teacher_epochs
    )
    clock.start("train_student")
    student = models.image_student(
        splits.input_shape, splits.classes, settings.student_width
    )
    cascade, history = train_cascade(
        teacher, student, distillation, data, console, settings.student_epochs
    )
    clock.start("calibrate")
    point = cascade.calibrate(data["calibration"], objective)
    console.print(
        f"Calibrated: threshold {point.threshold:.4f} delegates "
        f"{point.delegation_rate:.1%} of the calibration split."
    )
    clock.start("export")
    bundle = cascade.export(
        output / "bundle", class_names=splits.class_names, overwrite=overwrite
    )
    verified = bundle.manifest["verification"]
    console.print(
        f"Exported and run in LiteRT: {verified['decision_flips']} of "
        f"{verified['examples']:,} decisions differ from Keras."
    )
    clock.start("evaluate_keras")
    in_keras = cascade.evaluate(data["test"], return_dict=True, verbose=0)
    judged = cascade.judge(data["test"])
    clock.start("serve_and_predict")
    with ServerProcess(bundle.path, output / "server.log") as server:
        console.print(f"Teacher served at {server.url}.")
        measured = _run_bundle(bundle, server.url, data["test"])
    clock.stop()
    kept_in_keras = judged.scores >= np.float32(point.threshold)
    served_point = bundle.operating_point()
    costs = cascade.costs
    report = {
        "title": f"keras_cascade demo: {dataset}",
        "dataset": dataset,
        "splits": {**splits.sizes, "how": splits.how},
        "student_accuracy": measured["student_accuracy"],
        "teacher_accuracy": in_keras["teacher_accuracy"],
        "cascade_accuracy": measured["cascade_accuracy"],
        "delegation_rate": measured["delegation_rate"],
        "amortized_cost": costs.amortized(measured["delegation_rate"]),
        "costs": dataclasses.asdict(costs),
        "threshold": served_point["threshold"],
        "objective": served_point["objective"],
        "calibration": point.to_dict(),
        "served_over": "http",
        "rows_from_edge": measured["rows_from_edge"],
        "rows_from_cloud": measured["rows_from_cloud"],
        "decision_flips": int((kept_in_keras != measured["kept"]).sum()),
        "distillation": {
            "class_name": type(cascade.distillation).__name__,
            "config": cascade.distillation.get_config(),
        },
        "selected_fraction": history.history["selected_fraction"][-1],
        "student_bytes": bundle.manifest["student"]["bytes"],
        "teacher_parameters": teacher.count_params(),
        "student_parameters": student.count_params(),
        "seed": seed,
        "seconds": clock.seconds,
        "bundle": "bundle",
        "keras_cascade": __version__,
    }
    report["rows"] = _rows(report, costs)
    report["facts"] = _facts(report, bundle)
    curve = deferral_curve(
        judged.scores, judged.student_correct, judged.teacher_correct
    )
    write_report(output, report, curve)
    return report


def _run_bundle(bundle, url, test):
    """Runs the exported pair over the test split, teacher over HTTP."""
    labels, kept, right, student_right, cloud = [], [], [], [], 0
    with EdgeCascade.load(bundle.path, url, on_failure="raise") as edge:
        for x, y, _ in iterate_batches(test.unbatch().batch(EDGE_BATCH)):
            answer = edge.predict(x)
            alone = edge.predict_alone(x)
            labels.append(y)
            kept.append(answer.source == "edge")
            cloud += int((answer.source == "cloud").sum())
            right.append(answer.labels == y)
            student_right.append(alone.labels == y)
    kept = np.concatenate(kept)
    return {
        "kept": kept,
        "rows_from_edge": int(kept.sum()),
        "rows_from_cloud": cloud,
        "delegation_rate": float((~kept).mean()),
        "cascade_accuracy": float(np.concatenate(right).mean()),
        "student_accuracy": float(np.concatenate(student_right).mean()),
    }


def _rows(report, costs):
    return [
        {
            "name": name,
            "accuracy": report[f"{key}_accuracy"],
            "delegation_rate": rate,
            "cost": cost,
        }
        for name, key, rate, cost in (
            ("student alone", "student", 0.0, costs.student),
            ("teacher alone", "teacher", 1.0, costs.teacher),
            (
                "cascade",
                "cascade",
                report["delegation_rate"],
                report["amortized_cost"],
            ),
        )
    ]


def _facts(report, bundle):
    splits = report["splits"]
    return {
        "Splits": f"{splits['train']:,} train, {splits['calibration']:,} "
        f"calibration, {splits['test']:,} test: {splits['how']}",
        "Threshold": f"{report['threshold']:.6g}, chosen on the calibration "
        f"split by {_written(report['objective'])}; it promises nothing "
        "about new data",
        "Who answered": f"{report['rows_from_edge']:,} rows on the edge "
        f"(LiteRT), {report['rows_from_cloud']:,} by the teacher over HTTP",
        "Decisions that differ from Keras": str(report["decision_flips"]),
        "Costs": report["costs"]["how_measured"],
        "Student file": f"{report['student_bytes']:,} bytes, "
        f"{bundle.manifest['student']['quantization']}",
        "Distillation": f"{_written(report['distillation'])}, "
        f"{report['selected_fraction']:.1%} of the training examples selected",
    }


def _written(described):
    """`Name(argument=value, ...)`."""
    config = ", ".join(f"{k}={v}" for k, v in described["config"].items())
    return f"{described['class_name']}({config})"


class _Clock:
    """Seconds spent in each stage."""

    def __init__(self):
        self.seconds = {}
        self._stage, self._since = None, 0.0

    def start(self, stage):
        self.stop()
        self._stage, self._since = stage, time.monotonic()

    def stop(self):
        if self._stage is not None:
            spent = time.monotonic() - self._since
            self.seconds[self._stage] = round(spent, 2)
        self._stage = None
