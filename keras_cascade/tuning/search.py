"""Search over students and trainings for the best cascade in a budget."""

import inspect
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cascade import calibration
from keras_cascade import gates as gates_module
from keras_cascade.calibration import Objective
from keras_cascade.cascade import Cascade
from keras_cascade.data_record import ALLOWED_OVERLAP
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.evaluation import Costs
from keras_cascade.teacher_logits import TeacherLogitsCache
from keras_cascade.traffic_mix import TrafficMix
from keras_cascade.tuning.merit import difference, empirical
from keras_cascade.tuning.setting import Setting
from keras_cascade.tuning.training import Training, default_trainings
from keras_cascade.tuning.trial import Trial
from keras_cascade.tuning.tuning_result import TuningResult
from keras_cascade.utils import progress

#: Shares of a whole training after which trials are compared and dropped.
PARTS = (0.25, 0.5, 1.0)
#: Largest share of the trials that goes on after a comparison.
KEPT = 0.5


def tune(
    teacher: Any,
    train: Any,
    validation: Any,
    budget: Objective,
    students: "keras.Model | Sequence | dict | Callable",
    *,
    trainings: Sequence[Training] | None = None,
    gates: Sequence[Any] = ("margin",),
    gate_data: Any = None,
    traffic: TrafficMix | None = None,
    costs: Costs | None = None,
    epochs: int = 20,
    parts: Sequence[float] = PARTS,
    teacher_logits: TeacherLogitsCache | None = None,
    validation_logits: TeacherLogitsCache | None = None,
    directory: str | os.PathLike | None = None,
    max_students: int = 8,
    seconds: float | None = None,
    batch_size: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    verbose: bool | None = None,
) -> TuningResult:
    """Finds the student and the training with the best cascade in a budget.

    Every student is trained in every way, from its own first weights, and
    compared **at the budget** on the validation examples: the accuracy at the
    highest delegation rate or cost that the budget allows, or the lowest cost
    that reaches the accuracy it asks for. (`val_cascade_accuracy` would
    reward a training whose cascade delegates more.) The teacher runs once on
    each example.

    Successive halving: after a quarter and after half of the epochs a trial
    is dropped where it is worse than the best one by the interval of the
    paired difference, and at most half of the trials go on. With `parts=(1,)`
    all are trained to the end.

    The cascade that is returned has the threshold of the budget on the
    validation examples, which guarantees nothing: calibrate it, on examples
    of their own.

    Args:
        teacher: as `Cascade` takes it.
        train: labelled arrays, `(x, y)` or `(x, y, sample_weight)`.
        validation: labelled arrays. `calibrate` refuses them afterwards.
        budget: `MaxDelegationRate`, `MaxCost`, `MaxAccuracyDrop`,
            `MinAccuracy` or another objective. A confidence is left out.
        students: a `keras.Model`; a list of them, or a dict by name; or a
            function `build(hp)` of `keras_tuner.HyperParameters`, of which
            `max_students` different ones are drawn (needs `keras-tuner`).
        trainings: list of `Training`. Defaults to `None`:
            `default_trainings`.
        gates: list of gates, as `Cascade` takes them. Students are compared
            with the first, which needs no fitting; those at the end get the
            best. Defaults to `("margin",)`.
        gate_data: labelled examples that gates such as `"learned"` are fitted
            on; neither for training nor for validation. Defaults to `None`.
        traffic: `TrafficMix`, in training, validation and choice alike.
            Defaults to `None`.
        costs: `Costs`. Defaults to `None`: counted, for each student.
        epochs: int, of a whole training. Defaults to `20`.
        parts: ascending floats in (0, 1], the last one 1. Defaults to
            `(0.25, 0.5, 1.0)`.
        teacher_logits: `TeacherLogitsCache` of the training examples.
            Defaults to `None`: made in `directory`.
        validation_logits: the same of the validation examples.
        directory: folder in which a search that was stopped at any moment
            goes on when called again. Defaults to `None`: a temporary one.
        max_students: int, with `build(hp)`. Defaults to `8`.
        seconds: float. After so many no training begins; what is done by
            then is compared. Defaults to `None`.
        batch_size: int. Defaults to `32`.
        confidence: float in (0, 1), of the intervals. Defaults to `0.95`.
        seed: int. Defaults to `0`.
        verbose: bool. Shows progress. Defaults to `None`: where a person is
            looking.

    Returns:
        `TuningResult`.

    Raises:
        ValueError: bad arguments, or no trial meets the budget; the message
            says what is attainable.

    Example:

    >>> import keras, numpy as np
    >>> import keras_cascade as kc
    >>> def model(units):
    ...     return keras.Sequential(
    ...         [
    ...             keras.Input((4,)),
    ...             keras.layers.Dense(units, activation="relu"),
    ...             keras.layers.Dense(3),
    ...         ]
    ...     )
    >>> x = np.random.default_rng(0).normal(size=(90, 4)).astype("float32")
    >>> y = x[:, :3].argmax(axis=1)
    >>> result = kc.tune(
    ...     model(32), (x[:60], y[:60]), (x[60:], y[60:]),
    ...     kc.MaxDelegationRate(0.2), {"tiny": model(2), "small": model(4)},
    ...     epochs=4,
    ... )
    >>> len(result.table)
    8
    """
    train = _arrays("train", train, batch_size)
    validation = _arrays("validation", validation, batch_size)
    parts = _checked_parts(parts)
    started = time.perf_counter()
    empirical(calibration.get(budget))  # an error before any training
    _check_gates(gates, gate_data, validation)
    with tempfile.TemporaryDirectory() as temporary:
        setting = Setting(
            teacher=teacher,
            train=train,
            validation=validation,
            gate_data=gate_data,
            budget=calibration.get(budget),
            gates=list(gates),
            traffic=traffic,
            costs=costs,
            epochs=epochs,
            folder=Path(temporary if directory is None else directory),
            seed=seed,
            caches={"train": teacher_logits, "validation": validation_logits},
        )
        with progress.progress_shown(verbose):
            trials = _trials(setting, students, trainings, max_students)
            live, stopped = list(trials), False
            for number, part in enumerate(parts):
                until = max(1, round(part * epochs))
                live, stopped = _train(live, until, started, seconds)
                last = stopped or number == len(parts) - 1
                if last:
                    break
                live = _kept(live, confidence, parts[number])
            return _finished(trials, live, setting, confidence, stopped)


def _train(trials, epochs, started, seconds):
    """Trains each trial up to some epochs, while there is time.

    Returns:
        `(trials, stopped)`: those that can be compared, and whether the time
        was over.
    """
    done = []
    for number, trial in enumerate(trials):
        over = seconds is not None and time.perf_counter() - started > seconds
        if over and done:
            for late in trials[number:]:
                late.dropped = "the time was over"
            return done, True
        progress.tell(
            f"Training {trial.name}, {trial.training.name}, up to epoch "
            f"{epochs} ({number + 1} of {len(trials)})."
        )
        trial.train_to(epochs)
        done.append(trial)
    return done, False


def _kept(trials, confidence, part):
    """Trials that go on, the best first."""
    ordered = _ordered(trials)
    best = ordered[0]
    close = [best]
    for trial in ordered[1:]:
        gap = _gap(best, trial, confidence)
        if gap is None:
            trial.dropped = f"nothing met the budget after {part:.0%}"
        elif gap["low"] > 0:
            trial.dropped = (
                f"worse after {part:.0%} of the epochs, by "
                f"{gap['low']:.4f} to {gap['high']:.4f}"
            )
        else:
            close.append(trial)
    kept = close[: max(1, int(np.ceil(KEPT * len(trials))))]
    for trial in close[len(kept) :]:
        trial.dropped = f"not in the better half after {part:.0%}"
    return kept


def _ordered(trials):
    return sorted(trials, key=lambda trial: -trial.merit.value)


def _gap(best, other, confidence):
    """Paired difference of two trials; `None` where one has no threshold."""
    if best.merit.point is None or other.merit.point is None:
        # Of trials of which none meets the budget yet, all are alike.
        return {"low": 0.0} if best.merit.point is None else None
    return difference(
        best.results,
        other.results,
        (best.merit, other.merit),
        (best.cascade.costs, other.cascade.costs),
        confidence,
    )


def _finished(trials, live, setting, confidence, stopped):
    for trial in live:
        trial.choose_gate()
    ordered = _ordered(live)
    best = ordered[0]
    if best.merit.point is None:
        raise ValueError(
            f"No trial meets {setting.budget}. The nearest, {best.name} with "
            f"{best.training.name}: {best.merit.nearest}"
        )
    rivals = [t for t in ordered[1:] if t.merit.point is not None]
    gap = _gap(best, rivals[0], confidence) if rivals else None
    cascade = best.cascade
    cascade.threshold = best.merit.point.threshold
    # `calibrate` must not be given what the choice was made on.
    cascade.data_record.validation.merge(best.results.examples)
    return TuningResult(
        cascade=cascade,
        table=[trial.row() for trial in trials],
        best=best.row(),
        operating_point=best.merit.point,
        verdict=_verdict(best, rivals, gap, confidence, stopped),
        curves={
            f"{trial.name}, {trial.training.name}": (
                trial.results.deferral_curve(),
                trial.cascade.costs,
            )
            for trial in trials
            if trial.results is not None
        },
    )


def _verdict(best, rivals, gap, confidence, stopped):
    words = f"{best.name} with {best.training.name}"
    if gap is None:
        words += " is the one that was trained to the end."
    else:
        rival = f"{rivals[0].name} with {rivals[0].training.name}"
        interval = (
            f"{gap['difference']:+.4f} ({gap['low']:+.4f} to "
            f"{gap['high']:+.4f} at {confidence:.0%})"
        )
        if gap["low"] > 0:
            words += f" beats {rival} by {interval}."
        elif gap["examples_needed"] is None:
            words += f" is as good as {rival} on every validation example."
        else:
            words += (
                f" is not shown to beat {rival}: {interval}. About "
                f"{gap['examples_needed']:,} validation examples would tell "
                "such a difference."
            )
    return words + (" The time was over before all were." if stopped else "")


def _trials(setting, students, trainings, max_students):
    found = []
    for name, student, values in _students(students, max_students, setting):
        if trainings is None:
            trainings = _default_trainings(setting, student)
        names = [training.name for training in trainings]
        if len(set(names)) < len(names):
            raise ValueError(
                f"Expected trainings with names that differ. Received: {names}."
            )
        found += [
            Trial(setting, name, student, training, values)
            for training in trainings
        ]
    if not found:
        raise ValueError(
            "Expected at least one student and one training. Received none."
        )
    return found


def _default_trainings(setting, student):
    """`default_trainings` of the labels as they come in deployment."""
    cascade = Cascade(setting.teacher, student, costs=setting.costs)
    labels = np.asarray(cascade.labelled(setting.train).y).reshape(-1)
    weights = setting.train.sample_weight
    if setting.traffic is not None:
        weights = setting.traffic.weights(labels, weights)
    return default_trainings(labels, cascade.classes, weights)


def _check_gates(chosen, gate_data, validation):
    """Raises where a gate cannot be fitted, or on what it is chosen by."""
    if not chosen:
        raise ValueError("Expected at least one gate. Received none.")
    learned = [hasattr(gates_module.get(gate), "fit") for gate in chosen]
    if learned[0]:
        raise ValueError(
            "Expected a first gate that needs no fitting, such as 'margin': "
            f"students are compared with it. Received: {chosen[0]!r}. Put it "
            "after another."
        )
    if any(learned) and gate_data is None:
        raise ValueError(
            "Expected `gate_data`, labelled examples that a gate which learns "
            "is fitted on. Received none."
        )
    if gate_data is None:
        return
    examples = LabelledData.from_argument(gate_data).fingerprint
    if examples.share_seen_in(validation.fingerprint) > ALLOWED_OVERLAP:
        raise ValueError(
            "Expected `gate_data` of other examples than `validation`, which "
            "chooses among the gates. Received: "
            f"{examples.share_seen_in(validation.fingerprint):.0%} of them "
            "again. Split the data."
        )


def _students(students, count, setting):
    """Yields `(name, model, hyperparameters)`."""
    if isinstance(students, keras.Model):
        yield students.name, students, None
    elif isinstance(students, dict):
        yield from ((str(name), one, None) for name, one in students.items())
    elif callable(students):
        yield from _built(students, count, setting.seed)
    else:
        for number, one in enumerate(students):
            yield f"{number} {one.name}", one, None


def _built(build, count, seed):
    """Students of different hyperparameters, drawn by KerasTuner."""
    if len(inspect.signature(build).parameters) != 1:
        raise ValueError(
            "Expected a function `build(hp)` that returns a student. "
            f"Received a function of {inspect.signature(build)}."
        )
    try:
        import keras_tuner
    except ImportError:
        raise ValueError(
            "Expected `keras-tuner` to be installed, for `build(hp)`: `pip "
            "install keras-tuner`. Or pass a list of students."
        ) from None
    rng, seen = np.random.default_rng(seed), set()
    for _ in range(20 * count):
        if len(seen) == count:
            return
        values, student = {}, None
        while student is None:
            hp = keras_tuner.HyperParameters()
            hp.values = dict(values)
            keras.utils.set_random_seed(seed)
            built = build(hp)
            # Some are asked for only where others have certain values.
            new = [one for one in hp.space if one.name not in values]
            for one in new:
                values[one.name] = one.random_sample(int(rng.integers(2**31)))
            student = None if new else built
        active = {one.name: values[one.name] for one in hp.space}
        key = tuple(sorted(active.items()))
        if key in seen:
            continue
        seen.add(key)
        name = ", ".join(f"{name}={value}" for name, value in key)
        yield name, student, active


def _arrays(name, data, batch_size):
    data = LabelledData.from_argument(data, batch_size=batch_size)
    if not data.is_arrays or data.y is None:
        raise ValueError(
            f"Expected `{name}` as labelled arrays, `(x, y)`. Received: "
            + ("batches." if not data.is_arrays else "inputs only.")
        )
    return data


def _checked_parts(parts):
    parts = tuple(float(part) for part in parts)
    ascending = all(a < b for a, b in zip((0.0, *parts), parts, strict=False))
    if not parts or not ascending or parts[-1] != 1.0:
        raise ValueError(
            "Expected `parts` as ascending shares of a training that end in "
            f"1, such as {PARTS}. Received: {parts}."
        )
    return parts
