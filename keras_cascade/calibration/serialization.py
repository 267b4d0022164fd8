"""Serialization of objectives."""

from collections.abc import Sequence
from typing import Any

from keras_cascade.calibration.all_of import AllOf
from keras_cascade.calibration.max_accuracy_drop import MaxAccuracyDrop
from keras_cascade.calibration.max_cost import MaxCost
from keras_cascade.calibration.max_delegation_rate import MaxDelegationRate
from keras_cascade.calibration.max_expected_cost import MaxExpectedCost
from keras_cascade.calibration.max_expected_loss import MaxExpectedLoss
from keras_cascade.calibration.max_false_alarm_rate import MaxFalseAlarmRate
from keras_cascade.calibration.max_loss_increase import MaxLossIncrease
from keras_cascade.calibration.min_accuracy import MinAccuracy
from keras_cascade.calibration.min_group_accuracy import MinGroupAccuracy
from keras_cascade.calibration.min_precision import MinPrecision
from keras_cascade.calibration.min_recall import MinRecall
from keras_cascade.calibration.objective import Objective

#: Every objective by its class name.
NAMES = {
    cls.__name__: cls
    for cls in (
        AllOf,
        MaxAccuracyDrop,
        MaxCost,
        MaxDelegationRate,
        MaxExpectedCost,
        MaxExpectedLoss,
        MaxFalseAlarmRate,
        MaxLossIncrease,
        MinAccuracy,
        MinGroupAccuracy,
        MinPrecision,
        MinRecall,
    )
}


def get(
    identifier: "Objective | Sequence[Objective] | dict[str, Any]",
) -> Objective:
    """Retrieves an objective from an object, a list of several or a dict.

    Args:
        identifier: `Objective`, which is returned as it is; list of them, for
            `AllOf`; or dict, as `serialize` returns it.

    Returns:
        `Objective`.

    Raises:
        ValueError: none of these. There is no default objective.

    Example:

    >>> import keras_cascade as kc
    >>> kc.calibration.get([kc.MinAccuracy(0.9), kc.MaxDelegationRate(0.3)])
    AllOf([MinAccuracy(0.9), MaxDelegationRate(0.3)])
    """
    if isinstance(identifier, (list, tuple)):
        return AllOf(list(identifier))
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if not isinstance(identifier, Objective):
        raise ValueError(
            "Expected an objective, such as "
            "`keras_cascade.MaxAccuracyDrop(0.01)`, or a list of them. "
            + (
                "Received an array; labelled examples go in together, as "
                "`calibrate((x, y), objective)`."
                if hasattr(identifier, "shape")
                else f"Received: {identifier!r}."
            )
        )
    return identifier


def serialize(objective: Objective) -> dict[str, Any]:
    """Returns the config of an objective, as manifests and reports hold it.

    Args:
        objective: `Objective`.

    Returns:
        JSON-compatible dict of `class_name` and `config`.

    Example:

    >>> import keras_cascade as kc
    >>> kc.calibration.serialize(kc.MinAccuracy(0.9))["config"]
    {'min_accuracy': 0.9, 'confidence': None}
    """
    return objective.describe()


def deserialize(config: dict[str, Any]) -> Objective:
    """Makes an objective from its serialized config.

    Args:
        config: dict of `class_name` and `config`, as `serialize` returns it.

    Returns:
        `Objective`.

    Example:

    >>> import keras_cascade as kc
    >>> config = kc.calibration.serialize(kc.MaxCost(0.5))
    >>> kc.calibration.deserialize(config)
    MaxCost(0.5)
    """
    name = config.get("class_name")
    if name not in NAMES:
        raise ValueError(
            f"Not a known objective. Expected: a dict with 'class_name', one "
            f"of {sorted(NAMES)}, and 'config'. Received: {config!r}."
        )
    arguments = config["config"]
    if name == AllOf.__name__:
        return AllOf([deserialize(one) for one in arguments["objectives"]])
    return NAMES[name](**arguments)
