"""The bootstrap's machinery: resamples in, intervals out."""

import math
import numbers

import numpy as np

from keras_cascade.errors import UndefinedMetricError

#: Numbers in one block of resamples: bounds the memory, about 100 MB.
BLOCK = 1_000_000


def check_plan(confidence, resamples):
    """Raises where the resamples cannot tell the interval's ends.

    Args:
        confidence: float in (0, 1).
        resamples: int.
    """
    number = isinstance(confidence, numbers.Real)
    if not (number and 0 < confidence < 1):
        raise ValueError(
            "Expected `confidence` to be a number between 0 and 1, such as "
            f"0.95. Received: {confidence!r}."
        )
    # The slack is for 2 / (1 - 0.9), which is not quite 20.
    needed = math.ceil(2 / (1 - confidence) - 1e-6)
    whole = isinstance(resamples, numbers.Integral)
    if not whole or resamples < needed:
        raise ValueError(
            f"Expected at least {needed} resamples for a confidence of "
            f"{confidence}. Received: {resamples!r}."
        )


def resampled_counts(examples, resamples, seed):
    """Draws examples with replacement, again and again.

    Args:
        examples: int, how many there are and how many are drawn each time.
        resamples: int.
        seed: int.

    Yields:
        Int arrays `(some resamples, examples)`: how often each example came.
        How they are cut into blocks changes nothing.
    """
    rng = np.random.default_rng(seed)
    step = max(1, BLOCK // examples)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, examples, size=(rows, examples))
        drawn += examples * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * examples).reshape(
            rows, examples
        )


def measure_resamples(curves, resamples, seed):
    """Measures curves of the same examples on the same resamples.

    Args:
        curves: list of `ResampledCurve`.
        resamples: int.
        seed: int.

    Returns:
        List with a dict for each curve, of float arrays
        `(1 + resamples, ...)`: the examples as they are come first.
    """
    examples = curves[0].examples
    blocks = [[curve.measure(np.ones((1, examples)))] for curve in curves]
    for counts in resampled_counts(examples, resamples, seed):
        for curve, block in zip(curves, blocks, strict=True):
            block.append(curve.measure(counts))
    return [
        {name: np.concatenate([b[name] for b in block]) for name in block[0]}
        for block in blocks
    ]


def percentile_interval(values, confidence, undefined=""):
    """The middle `confidence` of resampled values, along the first axis.

    Args:
        values: float array `(1 + resamples, ...)`, NaN where undefined.
        confidence: float in (0, 1).
        undefined: str, why the first value can be undefined.

    Returns:
        Three arrays `(...)`: the first value, the lower and the upper end.

    Raises:
        UndefinedMetricError: the first value is undefined, or as many
            resampled ones as lie beyond one end of the interval. Fewer are
            left out.
    """
    value, values = values[0], values[1:]
    if np.isnan(value).any():
        raise UndefinedMetricError(undefined)
    tail = (1 - confidence) / 2
    share = np.isnan(values).mean()
    if share > tail:
        raise UndefinedMetricError(
            f"it is undefined in {share:.1%} of the resamples, too many for "
            "an interval"
        )
    return value, *np.nanquantile(values, [tail, 1 - tail], axis=0)
