"""Report of a cascade on the test split, of the commands report and demo."""

import importlib.metadata
from pathlib import Path

import numpy as np

from keras_cascade.calibration import SimultaneousBounds, deserialize
from keras_cascade.calibration.guarantees import guarantee_sentence
from keras_cascade.cli.cascade_data import splits_of
from keras_cascade.cli.saved_cascade import load_cascade
from keras_cascade.cli.trainer import batched
from keras_cascade.datasets.batches import take_rows
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.evaluation.report import FILES, write_report
from keras_cascade.evaluation.report.mistakes import picture_or_text
from keras_cascade.evaluation.report.numbers import report_numbers
from keras_cascade.teacher_checks import remarks_on_models
from keras_cascade.teacher_logits.teacher_logits_cache import weights_sha256
from keras_cascade.version import __version__

CONFIDENCE = 0.95
#: Number of classes of a traffic mix that are named.
MAX_CLASSES = 8
VERSIONED = ("keras", "tensorflow", "numpy")
#: Uses of examples, as in `keras_cascade.data_record.USES`, in words.
USED_TO = {
    "training": "train the student",
    "gate": "fit the gate",
    "calibration": "choose the threshold",
    "test": "report",
}


def write_cascade_report(
    cascade_file, spec, output, overwrite, seed, data_options=None
):
    """Writes the report of a saved cascade.

    Args:
        cascade_file: path of a .keras file.
        spec: str, data spec.
        output: path of the report's folder.
        overwrite: bool. Replaces an existing report.
        seed: int, of the splits.
        data_options: `DataOptions`. Defaults to `None`: as in the training.

    Returns:
        Dict of the report's path and its main numbers.
    """
    cascade = load_cascade(cascade_file)
    if cascade.operating_point is None:
        raise ValueError(
            "Expected a calibrated cascade. Received: "
            f"'{cascade_file}', which was never calibrated, or trained again "
            "since. Run `keras-cascade calibrate` first."
        )
    output = Path(output)
    existing = [name for name in FILES if (output / name).exists()]
    if existing and not overwrite:
        raise ValueError(
            f"Expected a folder without a report. Received: '{output}', which "
            f"has {existing}. Choose another, or pass --overwrite."
        )
    output.mkdir(parents=True, exist_ok=True)
    splits = splits_of(cascade, spec, seed, data_options)
    data = batched(splits)
    results, contents = report_of_results(
        cascade, splits, data, cascade.operating_point.to_dict(), seed
    )
    contents["title"] = f"{Path(cascade_file).stem} on {spec}"
    page = write_report(
        output, contents, results, shown_inputs(data["test"], contents)
    )
    return {"report": str(page), **_main_numbers(contents)}


def report_of_results(cascade, splits, data, point, seed):
    """Scores calibration and test split and computes the report's contents.

    Args:
        cascade: calibrated `Cascade`.
        splits: `Splits`.
        data: dict of split name to batches, in a fixed order.
        point: dict of the reported `OperatingPoint`.
        seed: int.

    Returns:
        `ExampleResults` of the test split, and the dict that `write_report`
        takes, without a `title`.

    Raises:
        ValueError: test examples were used before, or the traffic mix has no
            class frequencies.
    """
    record = cascade.data_record
    mix = record.traffic
    if mix is not None and mix.frequencies is None:
        raise ValueError(
            "Expected a cascade that was calibrated for its data's own traffic "
            "or for class frequencies. Received: one for a weight an example, "
            "which the test examples do not have. Calibrate it with "
            "`TrafficMix(frequencies=...)`."
        )
    test = LabelledData.from_argument(data["test"])
    results = cascade.judge(test, traffic=mix)
    record.refuse(results.examples, "training", "gate", "calibration")
    held_out = cascade.judge(data["calibration"], traffic=mix)
    record.refuse(held_out.examples, "training", "gate")
    costs = cascade.costs
    guarantees = point["guarantees"]
    bounds = SimultaneousBounds(
        held_out.scores,
        held_out.student_correct,
        held_out.teacher_correct,
        held_out.sample_weight,
        confidence=max(
            [one["confidence"] for one in guarantees], default=CONFIDENCE
        ),
        seed=record.seed,
    )
    numbers = report_numbers(
        results, point, costs, splits.class_names, bounds, seed=seed
    )
    return results, {
        "dataset": splits.name,
        "splits": {**splits.sizes, "how": splits.how},
        **numbers,
        "remarks": remarks_on_models(cascade, test) + numbers["remarks"],
        "guarantees": [
            guarantee_sentence(one, costs.unit, results.loss_name)
            for one in guarantees
        ],
        "traffic": mix and traffic_in_words(mix, splits.class_names),
        "fingerprints": _fingerprints(record, results.examples),
        "weights": {
            "teacher": weights_sha256(cascade.teacher),
            "student": weights_sha256(cascade.student),
        },
        "versions": {
            "keras-cascade": __version__,
            **{name: importlib.metadata.version(name) for name in VERSIONED},
        },
        "facts": _facts(cascade, splits, point),
        "seed": seed,
        "keras_cascade": __version__,
    }


def shown_inputs(test, contents):
    """Returns each mistake's input as picture or text, in their order.

    Args:
        test: batches of the test split.
        contents: dict, as `report_of_results` returns it.
    """
    rows = [mistake["row"] for mistake in contents["mistakes"] or []]
    inputs, first = {}, 0
    for x, y, _ in LabelledData.from_argument(test).batches():
        for row in rows:
            if first <= row < first + len(y):
                inputs[row] = take_rows(x, row - first)
        first += len(y)
    return [picture_or_text(inputs[row]) for row in rows]


def traffic_in_words(mix, class_names):
    """Returns the most frequent classes of a `TrafficMix` and their shares.

    Args:
        mix: `TrafficMix` with frequencies.
        class_names: list of str.

    Returns:
        Str.
    """
    order = np.argsort(-mix.frequencies, kind="stable")
    named = [
        f"{class_names[c]} {100 * mix.frequencies[c]:.1f} %"
        for c in order[:MAX_CLASSES]
    ]
    rest = len(order) - len(named)
    more = f" and {rest} more classes" if rest else ""
    return ", ".join(named) + more


def _main_numbers(contents):
    """Returns the numbers of a report that the command prints."""
    summary = contents["summary"]
    return {
        "dataset": contents["dataset"],
        "test_examples": summary["examples"],
        **{
            name: contents[name]
            for name in (
                "student_accuracy",
                "teacher_accuracy",
                "cascade_accuracy",
                "delegation_rate",
                "amortized_cost",
                "threshold",
                "guarantees",
            )
        },
        "deferral_score": summary["deferral"]["score"],
        "rows": contents["rows"],
        "unit": contents["costs"]["unit"],
    }


def _facts(cascade, splits, point):
    """Returns dict of name to text about splits, threshold and policy."""
    policy = cascade.distillation
    config = ", ".join(f"{k}={v}" for k, v in policy.get_config().items())
    return {
        "Splits": f"{splits.sizes['train']:,} train, "
        f"{splits.sizes['calibration']:,} calibration, "
        f"{splits.sizes['test']:,} test: {splits.how}",
        "Threshold": (
            f"{len(set(point['class_thresholds']))} of "
            f"{len(point['class_thresholds'])} predicted classes, up to "
            if point.get("class_thresholds")
            else ""
        )
        + f"{point['threshold']:.6g}, chosen on "
        f"{point['examples']:,} calibration examples by "
        f"{deserialize(point['objective'])}",
        "Gate": type(cascade.gate).__name__,
        "Distillation": f"{type(policy).__name__}({config})",
    }


def _fingerprints(record, test):
    examples = {use: getattr(record, use) for use in USED_TO} | {"test": test}
    return [
        {
            "what": USED_TO[use],
            "examples": one.examples,
            "sha256": one.hexdigest(),
        }
        for use, one in examples.items()
    ]
