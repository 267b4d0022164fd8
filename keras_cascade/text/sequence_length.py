"""How many tokens of a text a model reads: the rule."""

import math

import numpy as np

MULTIPLE = 8


def choose_length(counts, share=0.99, multiple=MULTIPLE):
    """The shortest sequence length that holds most texts whole.

    The smallest multiple of `multiple` that at least `share` of the texts fit
    into; the rest is truncated. A length is paid for at every prediction, so
    the longest texts should not set it.

    Args:
        counts: int array `(texts,)`, tokens of each text, special tokens
            counted.
        share: float in (0, 1]. Defaults to `0.99`.
        multiple: int >= 1. Defaults to `8`.

    Returns:
        int.

    Raises:
        ValueError: no texts, or a share outside (0, 1].

    Example:

    >>> import keras_cascade as kc
    >>> kc.text.choose_length([3, 5, 9, 40], share=0.75)
    16
    """
    counts = np.sort(np.asarray(counts))
    if not counts.size:
        raise ValueError("Expected at least one text. Received none.")
    if not 0 < share <= 1:
        raise ValueError(
            f"Expected `share` above 0 and at most 1. Received: {share!r}."
        )
    # So many texts must fit; one more than this many does not change that.
    needed = max(1, math.ceil(share * counts.size))
    longest = max(1, int(counts[needed - 1]))
    return multiple * math.ceil(longest / multiple)
