"""The data record of a cascade, saved inside its `.keras` file."""

import json
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cascade.calibration import OperatingPoint
from keras_cascade.datasets.fingerprint import Fingerprint
from keras_cascade.runtime.inputs import range_problem, value_range
from keras_cascade.traffic_mix import TrafficMix

ALLOWED_OVERLAP = 0.01
MIN_DISTINCT = 0.95
#: What examples are used for: what to call the set, and what was done to it.
USES = {
    "training": ("training set", "were trained on"),
    "validation": ("validation set", "were validated on while training"),
    "gate": ("gate-fitting set", "were used to fit the gate"),
    "calibration": ("calibration set", "were used to choose the threshold"),
    "test": ("test set", "were reported on"),
}
_STATE = "cascade.json"
OF_0_1_0 = (
    "This cascade's record is of keras_cascade 0.1.0, which knew numbers by "
    "their float32 value only: integers beyond 2**24 and close float64 "
    "look alike. If these examples are others, call `cascade.forget_data()`."
)


class DataRecord:
    """Fingerprints of the examples used so far, and the calibration result.

    Attributes:
        training: `Fingerprint` of the training examples.
        validation: `Fingerprint` of the `validation_data` of `fit`, on which
            an epoch may have been chosen.
        gate: `Fingerprint` of the examples that the gate was fitted on.
        calibration: `Fingerprint` of the calibration examples.
        test: `Fingerprint` of the examples that were last reported on.
        operating_point: `OperatingPoint` or `None`.
        traffic: `TrafficMix` of the calibration, or `None`.
        seed: int, of the calibration.
        calibration_data: what `calibrate` was given, for `export`; not
            saved. (As an attribute of a Keras model its dictionaries would
            become tracked ones, which functional models take for another
            structure.)
        example_inputs: a few inputs that were seen, for `export`; not saved.
        outdated: bool, whether something was trained since the threshold was
            chosen; not saved.
        input_ranges: list of the lowest and highest value of each input, in
            the first rows of the data so far; `None` for texts, and before
            there was any.
        class_names: list of str in label order, or `None`: not known.
        first_label: int, 0 or 1, with which the labels of the data begin; or
            `None`: no labels were seen.
        images: dict of the `scale`, `image_size` and `channels` in which the
            command line read images, or `None`.

    What keras_cascade 0.1.0 recorded is still known again. It holds numbers
    by their float32 values, so that of examples which float32 changes it
    cannot tell close ones apart; `refuse` says so.
    """

    training: Fingerprint
    validation: Fingerprint
    gate: Fingerprint
    calibration: Fingerprint
    test: Fingerprint
    operating_point: OperatingPoint | None
    traffic: TrafficMix | None
    seed: int
    calibration_data: Any
    example_inputs: Any
    outdated: bool
    input_ranges: list | None
    class_names: list[str] | None
    first_label: int | None
    images: dict | None

    def __init__(self):
        for name in USES:
            setattr(self, name, Fingerprint())
        self.operating_point = None
        self.traffic = None
        self.seed = 0
        self.calibration_data = None
        self.example_inputs = None
        self.outdated = False
        self.input_ranges = None
        self.class_names = None
        self.first_label = None
        self.images = None

    def forget_calibration(self):
        """Drops the operating point, which no longer holds."""
        self.outdated = self.outdated or self.operating_point is not None
        self.operating_point = None
        self.traffic = None
        self.calibration = Fingerprint()

    def forget(self):
        """Forgets every example and the calibration."""
        names, images = self.class_names, self.images
        first = self.first_label
        self.__init__()
        self.class_names, self.images = names, images
        self.first_label = first

    def see_class_names(self, class_names, classes):
        """Takes in the names of the classes, in the order of the outputs.

        Args:
            class_names: list of str, or `None`.
            classes: int, number of classes; `None` where not known yet.

        Raises:
            ValueError: another number of names, or other names than are
                known, or these in another order.
        """
        if class_names is None:
            return
        names = [str(name) for name in class_names]
        if isinstance(class_names, str) or len(set(names)) != len(names):
            raise ValueError(
                "Expected `class_names` as a list of names that differ. "
                f"Received: {class_names!r}."
            )
        if classes is not None and len(names) != classes:
            raise ValueError(
                f"Expected {classes} `class_names`, one per class. Received "
                f"{len(names)}: {names[:10]}."
            )
        if self.class_names is not None:
            check_same_names(
                "this call", names, "the cascade", self.class_names
            )
        self.class_names = names

    def see_inputs(self, x):
        """Takes in the value range of inputs, and warns of another scale.

        Args:
            x: a few rows of inputs.
        """
        leaves = [np.asarray(leaf) for leaf in keras.tree.flatten(x)]
        ranges = [value_range(leaf) for leaf in leaves]
        known = self.input_ranges
        if known is None or len(known) != len(ranges):
            self.input_ranges = ranges
            return
        for number, (leaf, new) in enumerate(zip(leaves, ranges, strict=True)):
            old = known[number]
            if old is None or new is None:
                continue
            problem = range_problem(leaf, old)
            if problem is None:
                known[number] = [min(old[0], new[0]), max(old[1], new[1])]
                continue
            warnings.warn(
                f"Inputs hold {problem}, the range of the inputs so far. "
                "Expected: inputs scaled as those that the models were "
                "trained on. Their answers are wrong otherwise.",
                stacklevel=4,
            )

    def calibrated(self, point, examples, data, traffic, seed):
        """Stores the result of a calibration and its examples."""
        self.outdated = False
        self.operating_point = point
        self.calibration = examples
        self.calibration_data = data
        self.traffic = traffic
        self.seed = seed

    def refuse(self, examples, *uses):
        """Raises where more than 1 % of `examples` were used before.

        Args:
            examples: `Fingerprint`.
            *uses: which earlier uses count: `"training"`, `"validation"`,
                `"gate"`, `"calibration"`.
        """
        for use in uses:
            earlier = getattr(self, use)
            share = examples.share_seen_in(earlier)
            if share <= ALLOWED_OVERLAP:
                continue
            thing, verb = USES[use]
            what = f"the {thing} itself" if share == 1 else "some of its own"
            alike = earlier.of_float32 and (
                examples.share_changed_by_float32() > ALLOWED_OVERLAP
            )
            raise ValueError(
                "Gates, thresholds and reports each need examples that "
                "nothing before them was fitted on. Expected: a data set that "
                f"shares at most {ALLOWED_OVERLAP:.0%} of its examples with "
                f"the {thing}. Received: {what} ({share:.1%} of "
                f"{examples.examples} {verb}; fingerprint "
                f"{examples.hexdigest()[:8]}). Split the data, or pass "
                "`allow_training_data=True` to accept biased numbers."
                + (f" {OF_0_1_0}" if alike else "")
            )

    def save(self, folder):
        """Writes the record into an existing folder."""
        state = {
            "examples": {name: getattr(self, name).examples for name in USES},
            "operating_point": (
                self.operating_point and self.operating_point.to_dict()
            ),
            "traffic": self.traffic and self.traffic.get_config(),
            "seed": self.seed,
            "of_float32": [n for n in USES if getattr(self, n).of_float32],
            "input_ranges": self.input_ranges,
            "class_names": self.class_names,
            "first_label": self.first_label,
            "images": self.images,
        }
        Path(folder, _STATE).write_text(json.dumps(state), encoding="utf-8")
        for name in USES:
            fingerprint = getattr(self, name)
            np.save(Path(folder, f"{name}.npy"), fingerprint.hashes)
            np.save(Path(folder, f"{name}.cast.npy"), fingerprint.cast)

    def load(self, folder):
        """Reads the files that `save` wrote."""
        state = json.loads(Path(folder, _STATE).read_text(encoding="utf-8"))
        of_float32 = state.get("of_float32", list(USES))  # 0.1.0 has no key
        for name in USES:
            hashes = np.load(Path(folder, f"{name}.npy"), allow_pickle=False)
            cast, file = (), Path(folder, f"{name}.cast.npy")
            if file.exists():  # 0.1.0 has none
                cast = np.load(file, allow_pickle=False)
            fingerprint = Fingerprint(
                hashes, state["examples"][name], cast, name in of_float32
            )
            setattr(self, name, fingerprint)
        self.seed = state["seed"]
        # 0.1.0 did not store these.
        self.input_ranges = state.get("input_ranges")
        self.class_names = state.get("class_names")
        self.first_label = state.get("first_label")
        self.images = state.get("images")
        if state["traffic"]:
            self.traffic = TrafficMix(**state["traffic"])
        if state["operating_point"]:
            self.operating_point = OperatingPoint.from_dict(
                state["operating_point"]
            )


def check_same_names(role, names, other_role, other_names):
    """Raises unless two lists of class names are the same, in one order.

    Args:
        role: str, whose names the first are, for the message.
        names: list of str.
        other_role: str.
        other_names: list of str.
    """
    if list(names) == list(other_names):
        return
    differ = "order" if sorted(names) == sorted(other_names) else "names"
    raise ValueError(
        f"Expected the same classes in the same order. Received of {role} "
        f"{list(names)[:10]} and of {other_role} {list(other_names)[:10]}, "
        f"which differ in their {differ}. Reorder the outputs of one model, or "
        "correct its names."
    )


def warn_of_repeats(examples):
    """Warns where a guarantee would count the same example several times.

    Args:
        examples: `Fingerprint` of the calibration examples.
    """
    share = examples.distinct_share()
    if share < MIN_DISTINCT:
        warnings.warn(
            f"Only {share:.0%} of the {examples.examples} calibration examples "
            "are distinct. A guarantee takes them for independent: that is "
            "right where the traffic repeats itself like this, and wrong "
            "where the data set was repeated or oversampled. Then calibrate "
            "without the repeats.",
            stacklevel=3,
        )
