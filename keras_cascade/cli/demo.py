"""Demo on real data: train, calibrate, export, serve and predict."""

import contextlib
import time
from pathlib import Path

import keras
import numpy as np

from keras_cascade import MaxDelegationRate
from keras_cascade.cli.cascade_data import remember_data
from keras_cascade.cli.data_options import DataOptions
from keras_cascade.cli.reference_models import reference_models
from keras_cascade.cli.report import report_of_results, shown_inputs
from keras_cascade.cli.trainer import batched, train_cascade, train_teacher
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.evaluation.report import write_report
from keras_cascade.evaluation.report.numbers import comparison_rows
from keras_cascade.runtime import EdgeCascade
from keras_cascade.serving import ServerProcess

EDGE_BATCH = 256


def run_demo(
    dataset, output, console, distillation="standard", max_delegation_rate=None,
    seed=0, overwrite=False, data_options=None,
):  # fmt: skip
    """Runs the demo and writes its bundle and report.

    Args:
        dataset: str, data spec of images or texts.
        output: folder for the bundle, the report and the server's log.
        console: `rich.console.Console` for progress.
        distillation: str, name of a policy. Defaults to `"standard"`.
        max_delegation_rate: float in [0, 1], or `None` for the data set's
            own. Defaults to `None`.
        seed: int. Defaults to `0`.
        overwrite: bool. Replaces an earlier bundle. Defaults to `False`.
        data_options: `DataOptions`. Defaults to `None`.

    Returns:
        Dict, as in `report.json`.
    """
    clock = _Stopwatch()
    keras.utils.set_random_seed(seed)
    splits = (data_options or DataOptions()).load(dataset, seed)
    references = reference_models(splits)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    settings = references.settings
    rate = max_delegation_rate
    rate = settings.max_delegation_rate if rate is None else rate
    objective = MaxDelegationRate(rate)
    sizes = ", ".join(f"{n:,} {name}" for name, n in splits.sizes.items())
    console.print(f"{dataset}: {sizes} examples ({splits.how}).")

    data = batched(splits, settings.batch_size)
    clock.start("train_teacher")
    teacher = train_teacher(
        references.teacher(settings.teacher_width),
        splits,
        data,
        console,
        settings.teacher_epochs,
    )
    clock.start("train_student")
    student = references.student(settings.student_width)
    cascade, history = train_cascade(
        teacher, student, distillation, data, console, settings.student_epochs
    )
    remember_data(cascade, splits)
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
    served_point = bundle.operating_point()
    results, shared = report_of_results(
        cascade, splits, data, served_point, seed
    )
    clock.start("serve_and_predict")
    with ServerProcess(bundle.path, output / "server.log") as server:
        console.print(f"Teacher served at {server.url}.")
        measured = _run_bundle(bundle, server.url, data["test"])
    clock.stop()
    accepted_in_keras = results.scores >= np.float32(point.threshold)
    costs = cascade.costs
    report = {
        **shared,
        "title": f"keras_cascade demo: {dataset}",
        "student_accuracy": measured["student_accuracy"],
        "cascade_accuracy": measured["cascade_accuracy"],
        "delegation_rate": measured["delegation_rate"],
        "amortized_cost": costs.amortized(measured["delegation_rate"]),
        "served_over": "http",
        "rows_from_edge": measured["rows_from_edge"],
        "rows_from_cloud": measured["rows_from_cloud"],
        "decision_flips": int(
            (accepted_in_keras != measured["accepted"]).sum()
        ),
        "distillation": {
            "class_name": type(cascade.distillation).__name__,
            "config": cascade.distillation.get_config(),
        },
        "selected_fraction": history.history["selected_fraction"][-1],
        "student_bytes": bundle.manifest["student"]["bytes"],
        "teacher_parameters": teacher.count_params(),
        "student_parameters": student.count_params(),
        "seconds": clock.seconds,
        "bundle": "bundle",
    }
    report["rows"] = comparison_rows(report, costs)
    report["facts"] = {**shared["facts"], **_facts(report, bundle)}
    write_report(output, report, results, shown_inputs(data["test"], report))
    return report


def serve_page(bundle, console):
    """Serves a bundle with the web page until Ctrl-C, at any free port.

    The server is a process of its own: this one has loaded the teacher's
    model, its optimizer and the data.

    Args:
        bundle: path of the bundle.
        console: `rich.console.Console` for the page's URL.
    """
    log_file = Path(bundle).parent / "server.log"
    # The page is of the same origin: no other needs to ask.
    options = ["--web", "--cors-origin", "none"]
    with ServerProcess(bundle, log_file, options=options) as server:
        url = server.url.partition("/v1/")[0]
        console.print(f"Page: {url}/web/ (Ctrl-C ends it)", soft_wrap=True)
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is the end
            server.wait()


def _run_bundle(bundle, url, test):
    """Runs the exported cascade on the test split, its teacher over HTTP."""
    data = LabelledData.from_argument(test.unbatch().batch(EDGE_BATCH))
    accepted, correct, student_correct, cloud_rows = [], [], [], 0
    with EdgeCascade.load(bundle.path, url, on_failure="raise") as edge:
        for x, y, _ in data.batches():
            prediction = edge.predict(x)
            accepted.append(prediction.source == "edge")
            cloud_rows += int((prediction.source == "cloud").sum())
            correct.append(prediction.labels == y)
            student_correct.append(edge.predict_alone(x).labels == y)
    accepted = np.concatenate(accepted)
    return {
        "accepted": accepted,
        "rows_from_edge": int(accepted.sum()),
        "rows_from_cloud": cloud_rows,
        "delegation_rate": float((~accepted).mean()),
        "cascade_accuracy": float(np.concatenate(correct).mean()),
        "student_accuracy": float(np.concatenate(student_correct).mean()),
    }


def _facts(report, bundle):
    return {
        "Who answered": f"{report['rows_from_edge']:,} rows on the edge "
        f"(LiteRT), {report['rows_from_cloud']:,} by the teacher over HTTP",
        "Decisions that differ from Keras": str(report["decision_flips"]),
        "Student file": f"{report['student_bytes']:,} bytes, "
        f"{bundle.manifest['student']['quantization']}",
        "Selected": f"{report['selected_fraction']:.1%} of the training "
        "examples learn from the teacher",
    }


class _Stopwatch:
    """Seconds of each stage of the demo."""

    def __init__(self):
        self.seconds = {}
        self._stage, self._start_time = None, 0.0

    def start(self, stage):
        self.stop()
        self._stage, self._start_time = stage, time.monotonic()

    def stop(self):
        if self._stage is not None:
            seconds = time.monotonic() - self._start_time
            self.seconds[self._stage] = round(seconds, 2)
        self._stage = None
