"""Test martingale with the Simple Jumper betting strategy."""

from __future__ import annotations

import math

import numpy as np


class JumperMartingale:
    """Bets on a sequence of outcomes, and moves capital among its bets.

    Every bet is fair (or unfavourable) under the hypothesis, so the capital's
    mean never exceeds 1, and the chance that it *ever* reaches c is at most
    1/c (Ville's inequality): the capital is an e-value at every time.

    Before each outcome, every bet gives up the share `jump` of its capital,
    which is spread evenly over all of them: the Simple Jumper of Vovk et al.,
    "Retrain or not retrain", arXiv 2102.10439. The inactive bet, which stakes
    nothing, is one of them. It gives up less and less,
    `jump / (1 + t / patience)` at outcome t, so that about
    `(1 + t / patience) ** (-jump * patience)` of it remains after t outcomes:
    a change after a long quiet time is bet on with capital that the quiet
    time has not consumed.

    Args:
        bets: float array `(outcomes, bets)`, positive: what one unit of
            capital becomes. The inactive bet is added to them.
        jump: float in [0, 1]. Defaults to `0.01`.
        patience: float > 0, in outcomes. Defaults to `50.0`.
        inactive: float in (0, 1), the inactive bet's part of the starting
            capital; the others share the rest. Defaults to `0.5`.

    Attributes:
        log_capital: float, natural logarithm; 0.0 at the start.

    Example: a coin said to be fair, and two bets.

    >>> from keras_cascade.runtime.drift import jumper_martingale
    >>> test = jumper_martingale.JumperMartingale([[1.5, 0.5], [0.5, 1.5]])
    >>> path = test.update([1] * 20)
    >>> round(float(path[0]), 3), bool(path[-1] > 5)
    (0.0, True)
    """

    def __init__(
        self,
        bets,
        jump: float = 0.01,
        patience: float = 50.0,
        inactive: float = 0.5,
    ):
        bets = np.asarray(bets, dtype="float64")
        self._table = list(np.hstack([np.ones((len(bets), 1)), bets]))
        self._jump = jump
        self._patience = patience
        others = bets.shape[1]
        self._shares = np.r_[inactive, np.full(others, (1 - inactive) / others)]
        self._outcomes = 0
        self.log_capital = 0.0

    def update(self, outcomes) -> np.ndarray:
        """Bets on outcomes, in their order.

        Args:
            outcomes: int array `(examples,)`, rows of `bets`.

        Returns:
            float array `(examples,)`: `log_capital` after each.
        """
        path = np.empty(len(outcomes))
        shares = self._shares
        for index, outcome in enumerate(np.asarray(outcomes).tolist()):
            # The jump, before the outcome is looked at: capital is staked
            # without knowledge of it, so that the mean growth stays at most
            # 1. Shares sum to 1 again afterwards, and only the logarithm of
            # the capital is kept: the capital itself would overflow.
            inactive = shares[0]
            released = (
                inactive * self._jump / (1 + self._outcomes / self._patience)
            )
            spread = released + self._jump * (1 - inactive)
            shares = shares * (1 - self._jump)
            shares[0] = inactive - released
            shares += spread / len(shares)
            shares *= self._table[outcome]
            growth = shares.sum()
            shares /= growth
            self.log_capital += math.log(growth)
            self._outcomes += 1
            path[index] = self.log_capital
        self._shares = shares
        return path

    def to_dict(self) -> dict:
        """Returns the state, as a JSON-compatible dict."""
        return {
            "log_capital": self.log_capital,
            "outcomes": self._outcomes,
            "shares": self._shares.tolist(),
        }

    def restore(self, state: dict) -> None:
        """Restores a state of `to_dict`.

        Raises:
            ValueError: the state is of other bets, or holds no numbers.
        """
        shares = np.array(state["shares"], dtype="float64")
        log_capital = float(state["log_capital"])
        fits = shares.shape == self._shares.shape and (shares >= 0).all()
        if not (
            fits
            and math.isclose(shares.sum(), 1.0, rel_tol=1e-6)
            and math.isfinite(log_capital)
        ):
            raise ValueError(
                f"expected a finite capital in {len(self._shares)} shares that "
                f"sum to 1, received {log_capital} in {shares.tolist()}"
            )
        self._shares = shares
        self._outcomes = int(state["outcomes"])
        self.log_capital = log_capital
