"""Guarantees in words, for model cards, reports and the console."""

import itertools

#: How the share of a class's objective continues, with the class in braces.
_CLASS_SENTENCES = {
    "precision": "of the answers {!r} right",
    "recall": "of class {!r} answered right",
    "false_alarm_rate": "of the other classes answered {!r}",
}


def guarantee_sentence(guarantee, unit="cost units", loss_name=None):
    """Describes one guarantee about new examples in a sentence.

    Args:
        guarantee: dict, one of `OperatingPoint.guarantees`.
        unit: str, of costs. Defaults to `"cost units"`.
        loss_name: str, where accuracies are 1 less this loss. Defaults to
            `None`.

    Example:

    >>> from keras_cascade.calibration.guarantees import guarantee_sentence
    >>> guarantee_sentence(
    ...     {"quantity": "accuracy_drop", "at_most": 0.01, "confidence": 0.95}
    ... )
    'at most 1.00 points less accurate than the teacher (confidence 95 %)'
    """
    confidence = f"(confidence {100 * guarantee['confidence']:g} %)"
    quantity = guarantee["quantity"]
    if loss_name is not None and quantity == "accuracy":
        limit = round(1 - guarantee["at_least"], 12)
        guarantee = {**guarantee, "at_most": limit}
        quantity = "expected_loss"
    elif loss_name is not None and quantity == "accuracy_drop":
        quantity = "loss_increase"
    mean_loss = f"a mean {loss_name or 'loss'}"
    if quantity == "accuracy_drop":
        what = (
            f"at most {100 * guarantee['at_most']:.2f} points less accurate "
            "than the teacher"
        )
    elif quantity == "delegation_rate":
        what = f"at most {100 * guarantee['at_most']:.2f} % delegated"
    elif quantity == "amortized_cost":
        what = f"at most {guarantee['at_most']:.4g} {unit} per example"
    elif quantity == "accuracy":
        what = f"at least {100 * guarantee['at_least']:.2f} % accurate"
    elif quantity in _CLASS_SENTENCES:
        side = "at_most" if "at_most" in guarantee else "at_least"
        what = (
            f"{side.replace('_', ' ')} {100 * guarantee[side]:.2f} % "
            + _CLASS_SENTENCES[quantity].format(guarantee["class"])
        )
    elif quantity == "expected_loss":
        what = f"{mean_loss} of at most {guarantee['at_most']:.4g}"
    elif quantity == "loss_increase":
        what = (
            f"{mean_loss} at most {guarantee['at_most']:.4g} above the "
            "teacher's"
        )
    elif quantity == "expected_cost":
        what = (
            f"answers that cost at most {guarantee['at_most']:.4g} per example"
        )
    else:
        what = _group_sentence(guarantee["at_least"])
    if guarantee.get("in_each_predicted_class"):
        what += ", also among the examples of each predicted class"
    return f"{what} {confidence}"


def _group_sentence(floors):
    if not isinstance(floors, dict):
        return f"at least {100 * floors:.2f} % accurate in every group"
    groups = {}
    for group in sorted_groups(floors):
        groups.setdefault(floors[group], []).append(group)
    return "at least " + ", ".join(
        f"{100 * floor:.2f} % accurate in {names_of_groups(names)}"
        for floor, names in groups.items()
    )


def sorted_groups(groups):
    """Group names in order, whole numbers by their value and first."""
    return sorted(
        groups, key=lambda g: (0, int(g), g) if _is_whole(g) else (1, 0, g)
    )


def names_of_groups(groups, noun="group"):
    """Group names in words, runs of whole numbers shortened.

    Args:
        groups: list of str, at least one, in order.
        noun: str, what one of them is. Defaults to `"group"`.

    Example:

    >>> from keras_cascade.calibration.guarantees import names_of_groups
    >>> names_of_groups(["0", "1", "2", "4"])
    'each of the groups 0 to 2, 4'
    """
    if len(groups) == 1:
        return f"{noun} {groups[0]}"
    runs = [[groups[0]]]
    for last, group in itertools.pairwise(groups):
        follows = _is_whole(last) and _is_whole(group)
        if follows and int(group) == int(last) + 1:
            runs[-1].append(group)
        else:
            runs.append([group])
    names = ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(run)
        for run in runs
    )
    plural = "classes" if noun == "class" else f"{noun}s"
    return f"each of the {plural} {names}"


def _is_whole(group):
    return group.isascii() and group.isdigit()
