"""Data, teacher and budget that all trials of a search share."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_cascade import gates as gates_module
from keras_cascade.calibration import Objective
from keras_cascade.datasets.fingerprint import example_hashes
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.evaluation import Costs
from keras_cascade.teacher_logits import (
    TeacherLogitsCache,
    cache_teacher_logits,
)
from keras_cascade.traffic_mix import TrafficMix
from keras_cascade.tuning.trial import digest, folder_of_trials


@dataclasses.dataclass
class Setting:
    """Data, teacher and budget that all trials of a search share.

    Attributes:
        teacher: as `Cascade` takes it.
        train: `LabelledData`, arrays.
        validation: `LabelledData`, arrays.
        gate_data: labelled examples for gates that learn, or `None`.
        budget: `Objective`.
        gates: list of gates, as `Cascade` takes them; the first one is used
            until the last part of the training.
        traffic: `TrafficMix` or `None`.
        costs: `Costs` or `None`.
        epochs: int, of a whole training.
        folder: path of the search's folder.
        seed: int.
        caches: dict of `"train"` and `"validation"` to `TeacherLogitsCache`,
            as far as given.
    """

    teacher: Any
    train: LabelledData
    validation: LabelledData
    gate_data: Any
    budget: Objective
    gates: Sequence[Any]
    traffic: TrafficMix | None
    costs: Costs | None
    epochs: int
    folder: Path
    seed: int
    caches: dict[str, TeacherLogitsCache | None]

    @functools.cached_property
    def directory(self) -> Path:
        """Folder of the trials' states."""
        return folder_of_trials(self.folder)

    def teacher_logits(self) -> TeacherLogitsCache:
        """The teacher's logits of the training examples, computed once."""
        return self._cached("train", self.train)

    @functools.cached_property
    def teacher_identity(self) -> str:
        """Hash that tells the teacher's logits from those of another."""
        cache = self.teacher_logits()
        known = cache.info["teacher_sha256"]
        if known is None:  # cross-fitted, or a log
            known = digest(cache.logits(self.train.first_rows(256)))
        return known

    def validation_logits(self) -> TeacherLogitsCache:
        """The teacher's logits of the validation examples, computed once."""
        return self._cached("validation", self.validation)

    def new_gate(self, gate: Any) -> gates_module.Gate:
        """A gate of one trial alone.

        Args:
            gate: name, dict or `Gate`.
        """
        made = gates_module.get(gate)
        return gates_module.deserialize(gates_module.serialize(made))

    @functools.cached_property
    def description(self) -> list[Any]:
        """Settings that a trial's training depends on."""
        traffic = None if self.traffic is None else self.traffic.get_config()
        gate = gates_module.get(self.gates[0])
        config = gate.get_config()
        config.pop("name")  # counted up from one gate to the next
        data = self.train
        hashes = [example_hashes(x) for x, _, _ in data.batches()]
        weight = data.sample_weight
        return [
            digest(np.concatenate(hashes)),
            digest(data.y),
            None if weight is None else digest(weight),
            data.batch_size,
            self.epochs,
            self.seed,
            traffic,
            type(gate).__name__,
            config,
        ]

    def _cached(self, name, data):
        if self.caches.get(name) is None:
            self.caches[name] = cache_teacher_logits(
                data, self.teacher, self.folder / f"teacher_{name}"
            )
        return self.caches[name]
