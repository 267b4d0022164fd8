"""Guarantees in words, for model cards, reports and the console."""


def guarantee_sentence(guarantee, unit="cost units"):
    """Describes one guarantee about new examples in a sentence.

    Args:
        guarantee: dict, one of `OperatingPoint.guarantees`.
        unit: str, of costs. Defaults to `"cost units"`.

    Example:

    >>> from keras_cascade.calibration.guarantees import guarantee_sentence
    >>> guarantee_sentence(
    ...     {"quantity": "accuracy_drop", "at_most": 0.01, "confidence": 0.95}
    ... )
    'at most 1.00 points less accurate than the teacher (confidence 95 %)'
    """
    confidence = f"(confidence {100 * guarantee['confidence']:g} %)"
    quantity = guarantee["quantity"]
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
    else:
        what = _group_sentence(guarantee["at_least"])
    return f"{what} {confidence}"


def _group_sentence(floors):
    if not isinstance(floors, dict):
        return f"at least {100 * floors:.2f} % accurate in every group"
    return "at least " + ", ".join(
        f"{100 * floor:.2f} % accurate in group {group}"
        for group, floor in floors.items()
    )
