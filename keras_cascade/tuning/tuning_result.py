"""Result of a search: the cascade, the table and the picture."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cascade.calibration import OperatingPoint
from keras_cascade.cascade import Cascade

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FRONT = "#1d4ed8"


@dataclasses.dataclass(frozen=True, eq=False)
class TuningResult:
    """Result of `keras_cascade.tune`.

    Attributes:
        cascade: `Cascade`, trained, compiled, with the threshold of the
            budget on the validation examples. Calibrate it.
        table: list of dicts, one per trial: `student`, `training`,
            `hyperparameters`, `parameters`, `epochs`, `seconds`, `gate`,
            `dropped` (why, or `None`), and at the budget `accuracy`,
            `delegation_rate` and `amortized_cost`.
        best: dict, the row of the cascade.
        operating_point: `OperatingPoint` on the validation examples.
        verdict: str, how the best one compares with the second.
        curves: dict of trial to its `(DeferralCurve, Costs)`.
    """

    cascade: Cascade
    table: list[dict[str, Any]]
    best: dict[str, Any]
    operating_point: OperatingPoint
    verdict: str
    curves: dict[str, tuple]

    def front(self) -> list[dict[str, Any]]:
        """Pareto front of accuracy against cost, over all trials.

        Returns:
            List of dicts of `cost`, `accuracy`, `delegation_rate` and
            `trial`, by rising cost: no other point is as cheap and as
            accurate.
        """
        points = [
            (costs.amortized(float(rate)), float(accuracy), float(rate), name)
            for name, (curve, costs) in self.curves.items()
            for rate, accuracy in zip(
                curve.delegation_rate, curve.accuracy, strict=True
            )
        ]
        front, highest = [], -np.inf
        for cost, accuracy, rate, name in sorted(
            points, key=lambda one: (one[0], -one[1])
        ):
            if accuracy > highest:
                highest = accuracy
                front.append(
                    {
                        "cost": cost,
                        "accuracy": accuracy,
                        "delegation_rate": rate,
                        "trial": name,
                    }
                )
        return front

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws accuracy against cost: a curve per trial, and the front.

        Args:
            ax: `matplotlib.axes.Axes`. Defaults to `None`: a new figure.

        Returns:
            `matplotlib.axes.Axes`.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
        for name, (curve, costs) in self.curves.items():
            ax.step(
                [costs.amortized(float(r)) for r in curve.delegation_rate],
                100 * curve.accuracy,
                where="post", lw=1, alpha=0.6, label=name,
            )  # fmt: skip
        front = self.front()
        ax.step(
            [point["cost"] for point in front],
            [100 * point["accuracy"] for point in front],
            where="post", lw=2.5, color=_FRONT, label="Pareto front",
        )  # fmt: skip
        point = self.operating_point
        if point.amortized_cost is not None:
            ax.plot(
                point.amortized_cost, 100 * point.accuracy, "o", color=_FRONT
            )
        unit = next(iter(self.curves.values()))[1].unit
        ax.set_xlabel(f"cost per example ({unit})")
        ax.set_ylabel("accuracy on validation examples (%)")
        ax.legend(fontsize=7)
        return ax

    def __str__(self):
        head = f"{'student':24} {'training':24} {'accuracy':>8} "
        head += f"{'delegated':>9} {'cost':>7}  dropped"
        lines = [head]
        for row in self.table:
            accuracy, rate, cost = (
                "-" if row[name] is None else f"{row[name]:.4f}"
                for name in ("accuracy", "delegation_rate", "amortized_cost")
            )
            lines.append(
                f"{row['student'][:24]:24} {row['training'][:24]:24} "
                f"{accuracy:>8} {rate:>9} {cost:>7}  {row['dropped'] or ''}"
            )
        return "\n".join([*lines, self.verdict])
