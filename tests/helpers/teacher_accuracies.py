"""The teacher's accuracy by every path, on the same rows."""

import json

import numpy as np

from keras_cascade.cli.cascade_data import splits_of
from keras_cascade.cli.data_options import DataOptions
from keras_cascade.cli.saved_cascade import load_cascade
from keras_cascade.runtime import EdgeCascade
from keras_cascade.serving import ServerProcess


def teacher_accuracies(run, cascade_file, bundle, data, folder, **options):
    """Measures the accuracy of one teacher on both held-out splits.

    Args:
        run: function that runs a command and returns its output.
        cascade_file: path of a calibrated cascade.
        bundle: path of its bundle.
        data: list of str, the options of the commands that name the data.
        folder: `Path` for reports and logs.
        **options: the same, as arguments of `DataOptions`.

    Returns:
        Dict of `"test"` and `"calibration"` to a dict of path to accuracy.
    """

    def command(*arguments):
        return json.loads(run(*arguments, *data, "--json"))

    cascade = load_cascade(cascade_file)
    spec = data[data.index("--data") + 1]
    splits = splits_of(cascade, spec, 0, DataOptions(**options))
    report = command("report", cascade_file, "--output", folder / "report")
    of_test = {
        "evaluate": command("evaluate", cascade_file)["teacher_accuracy"],
        "report": report["teacher_accuracy"],
    }
    point = json.loads((bundle / "manifest.json").read_text("utf-8"))
    of_calibration = {
        "calibrate": cascade.operating_point.teacher_accuracy,
        "manifest": point["operating_points"][0]["teacher_accuracy"],
    }
    accuracies = {"test": of_test, "calibration": of_calibration}
    with (
        ServerProcess(bundle, folder / "server.log") as server,
        EdgeCascade.load(bundle, server.url, on_failure="raise") as edge,
    ):
        for split, paths in accuracies.items():
            verified = command("verify", bundle, "--split", split)
            assert verified["passed"]
            paths["verify"] = verified["measured"]["teacher_accuracy"]
            x, y = splits.arrays(split)
            batches = getattr(splits, split).batch(32)
            paths["python"] = float(
                cascade.judge(batches).teacher_correct.mean()
            )
            inputs = batches.map(lambda x, y: x)
            answers = cascade.teacher.predict(inputs, verbose=0)
            paths["keras"] = float(np.mean(answers.argmax(axis=-1) == y))
            (name,) = (one["name"] for one in edge.bundle.inputs)
            answers = edge.teacher.logits({name: x})
            paths["served"] = float(np.mean(answers.argmax(axis=-1) == y))
    return accuracies


def check_equal(accuracies):
    """Asserts that all paths of a split give one accuracy."""
    for split, paths in accuracies.items():
        assert len(paths) >= 6
        assert np.ptp(list(paths.values())) < 1e-6, (split, paths)
