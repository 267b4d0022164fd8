"""One student with one way of training it, trained in parts."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_cascade.cascade import Cascade
from keras_cascade.distillation.distillation_policy import teacher_is_needed
from keras_cascade.tuning.merit import Merit, merit_of
from keras_cascade.utils.serialized_model import serialized_model

_STATE, _WEIGHTS = "state.json", "weights.npz"


class Trial:
    """One student with one way of training it.

    After each part of the training its state is on disk, so that a search
    that was stopped goes on.

    Args:
        setting: `Setting`, of the search.
        name: str, of the student.
        student: `keras.Model`; a copy with its weights is trained.
        training: `Training`.
        hyperparameters: dict that `build(hp)` made the student from. Defaults
            to `None`.

    Attributes:
        cascade: `Cascade`.
        epochs: int, done so far.
        seconds: float, spent on training.
        results: `ExampleResults` of the validation examples, or `None`.
        merit: `Merit` of those, or `None`.
        dropped: str or `None`, why it was dropped.
    """

    def __init__(self, setting, name, student, training, hyperparameters=None):
        self.name = name
        self.training = training
        self.hyperparameters = hyperparameters
        self.epochs, self.seconds = 0, 0.0
        self.results = self.merit = self.dropped = None
        self._setting = setting
        keras.utils.set_random_seed(setting.seed)
        self.cascade = Cascade(
            setting.teacher,
            _copied(student),
            distillation=training.policy(),
            gate=setting.new_gate(setting.gates[0]),
            costs=setting.costs,
        )
        self.cascade.compile(training.optimizer())
        self._folder = setting.directory / self._key(student)

    def train_to(self, epochs: int) -> None:
        """Trains up to a number of epochs, and stores the state.

        Args:
            epochs: int, in all.
        """
        setting = self._setting
        stored = self._folder / f"{epochs:05d}"
        if (stored / _STATE).exists():
            self._restore(stored)
        else:
            started = time.perf_counter()
            self._fit(epochs, self.epochs)
            self.epochs = epochs
            last = epochs == setting.epochs
            if last and self.training.gatekeeper_epochs:
                self.cascade.distillation = self.training.second_stage()
                self._fit(self.training.gatekeeper_epochs, 0)
            self.seconds += time.perf_counter() - started
            self._store(stored)
        self.results, self.merit = self._scored()

    def choose_gate(self) -> None:
        """Takes the gate with the highest merit out of those in question."""
        setting = self._setting
        best = self.merit, self.results, self.cascade.gate
        for gate in setting.gates[1:]:
            self.cascade.gate = setting.new_gate(gate)
            if hasattr(self.cascade.gate, "fit"):
                self.cascade.fit_gate(
                    setting.gate_data, traffic=setting.traffic
                )
            results, merit = self._scored()
            if merit.value > best[0].value:
                best = merit, results, self.cascade.gate
        self.merit, self.results, self.cascade.gate = best

    def row(self) -> dict[str, Any]:
        """Returns a JSON-compatible dict of what it came to."""
        row = {
            "student": self.name,
            "training": self.training.name,
            "hyperparameters": self.hyperparameters,
            "parameters": self.cascade.student.count_params(),
            "epochs": self.epochs,
            "seconds": self.seconds,
            "gate": type(self.cascade.gate).__name__,
            "dropped": self.dropped,
        }
        point = None if self.merit is None else self.merit.point
        for name in ("accuracy", "delegation_rate", "amortized_cost"):
            row[name] = None if point is None else getattr(point, name)
        return row

    def _fit(self, epochs, first_epoch):
        setting = self._setting
        cached = None
        if teacher_is_needed(self.cascade.distillation):
            cached = setting.teacher_logits()
        keras.utils.set_random_seed(setting.seed + first_epoch)
        self.cascade.fit(
            setting.train.x,
            setting.train.y,
            sample_weight=setting.train.sample_weight,
            batch_size=setting.train.batch_size,
            epochs=epochs,
            initial_epoch=first_epoch,
            verbose=0,
            teacher_logits=cached,
            traffic=setting.traffic,
            spot_check=False,
        )

    def _scored(self) -> tuple[Any, Merit]:
        setting = self._setting
        results = self.cascade.judge(
            setting.validation,
            traffic=setting.traffic,
            teacher_logits=setting.validation_logits(),
            spot_check=False,
        )
        merit = merit_of(
            results,
            setting.budget,
            self.cascade.costs,
            self.cascade.data_record.class_names,
        )
        return results, merit

    def _key(self, student):
        setting = self._setting
        needed = teacher_is_needed(self.training.policy())
        described = json.dumps(
            [
                _without_names(student),
                [digest(w) for w in student.get_weights()],
                self.training.describe(),
                setting.description,
                setting.teacher_identity if needed else None,
            ],
            sort_keys=True,
            default=str,
        )
        return hashlib.sha256(described.encode()).hexdigest()[:16]

    def _store(self, folder):
        """Writes the state into a folder that is moved to its name."""
        cascade = self.cascade
        work = folder.with_name(f".{folder.name}")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        variables = [*cascade.student.variables, *cascade.optimizer.variables]
        arrays = {
            f"{i:05d}": keras.ops.convert_to_numpy(v)
            for i, v in enumerate(variables)
        }
        np.savez(work / _WEIGHTS, **arrays)
        cascade.save_assets(str(work))
        state = {"epochs": self.epochs, "seconds": self.seconds}
        (work / _STATE).write_text(json.dumps(state), encoding="utf-8")
        os.rename(work, folder)

    def _restore(self, folder):
        cascade = self.cascade
        cascade.prepare(self._setting.train)
        if not cascade.optimizer.built:
            cascade.optimizer.build(cascade.trainable_variables)
        variables = [*cascade.student.variables, *cascade.optimizer.variables]
        with np.load(folder / _WEIGHTS) as stored:
            for variable, name in zip(
                variables, sorted(stored.files), strict=True
            ):
                variable.assign(stored[name])
        cascade.load_assets(str(folder))
        state = json.loads((folder / _STATE).read_text("utf-8"))
        self.epochs, self.seconds = state["epochs"], state["seconds"]
        last = self.epochs == self._setting.epochs
        if last and self.training.gatekeeper_epochs:
            cascade.distillation = self.training.second_stage()


def folder_of_trials(directory: str | os.PathLike) -> Path:
    """Returns the folder of the trials' states, made where it is not there."""
    folder = Path(directory) / "trials"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _copied(student):
    """Copy of a model with its weights."""
    copy = keras.saving.deserialize_keras_object(serialized_model(student))
    copy.set_weights(student.get_weights())
    return copy


def _without_names(student):
    """Config of a model with its layers' names replaced by their numbers.

    Keras counts automatic names up, from one model to the next.
    """
    layers = [student, *student._flatten_layers()]
    numbers = {layer.name: f"layer {i}" for i, layer in enumerate(layers)}

    def renamed(value):
        if isinstance(value, dict):
            return {key: renamed(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [renamed(one) for one in value]
        return numbers.get(value, value) if isinstance(value, str) else value

    return renamed(serialized_model(student))


def digest(array: npt.ArrayLike) -> str:
    """SHA-256 of an array: type, shape and values."""
    array = np.asarray(array)
    head = f"{array.dtype.str} {array.shape}".encode()
    if array.dtype.kind == "O":
        body = json.dumps(array.tolist(), default=str).encode()
    else:
        body = np.ascontiguousarray(array).tobytes()
    return hashlib.sha256(head + body).hexdigest()
