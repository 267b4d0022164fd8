"""One threshold for each class that the student predicts."""

import numpy as np

from keras_cascade.calibration.calibration_sample import CalibrationSample

#: Classes that are predicted for fewer calibration examples share a threshold.
MIN_CLASS_EXAMPLES = 100


def class_groups(predicted, classes, min_examples):
    """Classes that have a threshold together.

    A class that is predicted for at least `min_examples` examples is alone.
    The others are pooled; while the pool holds fewer than `min_examples`, the
    rarest of the classes that are alone joins it. The rule looks at the
    predictions only, never at scores or labels.

    Args:
        predicted: int array `(examples,)`, the student's classes.
        classes: int, number of classes.
        min_examples: int.

    Returns:
        List of lists of classes; the pool, if there is one, is the last.

    Example:

    >>> from keras_cascade.calibration.class_thresholds import class_groups
    >>> class_groups([0] * 9 + [1] * 5 + [2] * 2, 4, min_examples=4)
    [[0], [1, 2, 3]]
    """
    counts = np.bincount(predicted, minlength=classes)
    alone = [c for c in range(classes) if counts[c] >= min_examples]
    pool = [c for c in range(classes) if counts[c] < min_examples]
    while pool and alone and counts[pool].sum() < min_examples:
        rarest = min(alone, key=lambda c: counts[c])
        alone.remove(rarest)
        pool.append(rarest)
    return [[c] for c in alone] + ([sorted(pool)] if pool else [])


def fit_class_thresholds(objective, columns, classes, min_examples, shared):
    """Threshold of each predicted class, all of them guaranteed together.

    Let g run over the G groups of predicted classes, with
    `P(group g) = π_g`. A mean loss over all examples is `Σ_g π_g · E[loss |
    group g]`, and the threshold of a group enters its own term only. So the
    budget ε is given out as `π_g · ε`: where `E[loss | group g] <= ε` in
    every group, the mean is at most `Σ_g π_g · ε = ε`, whatever the π_g are.
    Given the predictions, the examples of a class are independent draws of
    its conditional law: each group is tested by the objective's own test at
    `error / G`, and by the union bound all hold together with an error of at
    most `error`. For a pool of several classes the law is that of their mix
    on the calibration examples.

    Where a group has too few examples for a test and one decision is certain
    to meet the objective (everything delegated has no accuracy drop), that
    is taken.

    Args:
        objective: `Objective`.
        columns: dict of arrays `(examples,)`, arguments of
            `CalibrationSample`, `student_labels` among them.
        classes: int, number of classes.
        min_examples: int.
        shared: dict of the other arguments of `CalibrationSample`.

    Returns:
        `(thresholds, groups, trials)`: list of a float for each class, the
        list of `class_groups`, and the number of examples that were tested.

    Raises:
        ValueError: a group cannot meet the objective.
    """
    if not objective.splits_over_classes:
        raise ValueError(
            f"{objective} is about examples of several predicted classes at "
            "a time, so that it cannot be split over thresholds per predicted "
            "class. Expected with `per_class=True`: MaxAccuracyDrop, "
            "MinAccuracy, MaxLossIncrease, MaxExpectedLoss, MaxExpectedCost, "
            "MaxDelegationRate or MaxCost. "
            "Calibrate with one threshold."
        )
    predicted = np.asarray(columns["student_labels"]).reshape(-1)
    weight = columns["sample_weight"]
    usable = predicted if weight is None else predicted[weight > 0]
    groups = class_groups(usable, classes, min_examples)
    part = objective.with_error_split(len(groups))
    thresholds, trials = np.empty(classes, dtype="float64"), 0
    for group in groups:
        rows = np.isin(predicted, group)
        sample = CalibrationSample(
            **{
                name: None if values is None else np.asarray(values)[rows]
                for name, values in columns.items()
            },
            **shared,
            classes=classes,
            any_scores=True,
        )
        trials += part.tested_examples(sample)
        try:
            index = _choose(part, sample)
        except ValueError as error:
            raise ValueError(
                f"With a threshold per predicted class, where the student "
                f"predicts {_named(group, shared.get('class_names'))}: {error}"
            ) from error
        thresholds[group] = sample.curve.thresholds[index]
    return thresholds.tolist(), groups, trials


def _choose(objective, sample):
    """Index of the candidate of one group."""
    usable = objective.tested_examples(sample)
    met = np.flatnonzero(objective.meets(sample)) if usable else []
    if len(met):
        return int(met[-1] if objective.spends_budget else met[0])
    if objective.certain is None:
        return objective.choose(sample)  # raises its own error
    return -1 if objective.certain == "delegate" else 0


def _named(group, class_names, most=5):
    names = [
        repr(str(class_names[c])) if class_names else str(c)
        for c in group[:most]
    ]
    more = f" and {len(group) - most} more" if group[most:] else ""
    noun = "class" if len(group) == 1 else "one of the pooled classes"
    return f"{noun} {', '.join(names)}{more}"
