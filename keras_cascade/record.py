"""What a cascade remembers of its data, saved inside its .keras file."""

import json
from pathlib import Path

import numpy as np

from keras_cascade.calibration import OperatingPoint
from keras_cascade.datasets.fingerprint import Fingerprint

ALLOWED_OVERLAP = 0.01
_STATE = "cascade.json"


class CascadeRecord:
    """Which examples were trained and calibrated on, and with what result.

    Attributes:
        training: `Fingerprint` of the training examples.
        calibration: `Fingerprint` of the calibration examples.
        operating_point: `OperatingPoint` or `None`.
        calibration_data: what `calibrate` was given, for `export`; not
            saved. (As an attribute of a Keras model its dictionaries would
            become tracked ones, which functional models take for another
            structure.)
        example_inputs: a few inputs that were seen, for `export`; not saved.
    """

    def __init__(self):
        self.training = Fingerprint()
        self.calibration = Fingerprint()
        self.operating_point = None
        self.calibration_data = None
        self.example_inputs = None

    def forget_calibration(self):
        """The operating point no longer holds: something changed."""
        self.operating_point = None

    def refuse_training_data(self, examples):
        """Raises where more than 1 % of `examples` were trained on."""
        share = examples.share_seen_in(self.training)
        if share <= ALLOWED_OVERLAP:
            return
        what = "the training set itself" if share == 1 else "training examples"
        raise ValueError(
            "Thresholds and reports need examples that the student was not "
            "trained on. Expected: a data set that shares at most "
            f"{ALLOWED_OVERLAP:.0%} of its examples with the training set. "
            f"Received: {what} ({share:.1%} of {examples.examples} were "
            f"trained on; fingerprint {examples.hexdigest()[:8]}). Split the "
            "data, or pass `allow_training_data=True` to accept biased "
            "numbers."
        )

    def save(self, folder):
        """Writes the record into an existing folder."""
        state = {
            "training_examples": self.training.examples,
            "calibration_examples": self.calibration.examples,
            "operating_point": (
                self.operating_point and self.operating_point.to_dict()
            ),
        }
        Path(folder, _STATE).write_text(json.dumps(state), encoding="utf-8")
        for name in ("training", "calibration"):
            np.save(Path(folder, f"{name}.npy"), getattr(self, name).hashes)

    def load(self, folder):
        """Reads what `save` wrote."""
        state = json.loads(Path(folder, _STATE).read_text(encoding="utf-8"))
        for name in ("training", "calibration"):
            hashes = np.load(Path(folder, f"{name}.npy"), allow_pickle=False)
            count = state[f"{name}_examples"]
            setattr(self, name, Fingerprint(hashes, count))
        if state["operating_point"]:
            self.operating_point = OperatingPoint.from_dict(
                state["operating_point"]
            )
