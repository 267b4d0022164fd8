"""`keras-cascade verify`: a bundle checked again, from its files alone."""

import dataclasses

from keras_cascade import datasets
from keras_cascade.bundle import Bundle
from keras_cascade.cli.training import batched
from keras_cascade.datasets.input_checks import checked_batches
from keras_cascade.export.bundle_checks import check_bundle


def verify(bundle_path, spec, split, seed):
    """Checks a bundle on one split of a data set.

    Args:
        bundle_path: folder of a bundle.
        spec: str, data spec.
        split: `"test"` or `"calibration"`.
        seed: int, of the splits.

    Returns:
        Dict of `passed`, `checks` and `measured`.
    """
    if split not in ("test", "calibration"):
        raise ValueError(
            f"Expected --split test or calibration. Received: '{split}'."
        )
    data = batched(datasets.load(spec, seed))[split]
    classes = len(Bundle.load(bundle_path).classes)
    checks, measured = check_bundle(
        bundle_path, checked_batches(data, classes=classes)
    )
    return {
        "passed": all(check.passed for check in checks),
        "checks": [dataclasses.asdict(check) for check in checks],
        "measured": measured,
    }
