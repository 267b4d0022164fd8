"""The teacher's margins in a few lines of text, before training starts."""

import numpy as np

BINS = 10
WIDTH = 40


def margin_summary(margins, policy):
    """A histogram of margins, and what a margin policy would select.

    Args:
        margins: float array `(examples,)`, in [0, 1].
        policy: `DistillationPolicy`; one with a margin threshold gets its
            selected fraction stated.

    Returns:
        str of several lines.
    """
    counts, edges = np.histogram(margins, bins=BINS, range=(0.0, 1.0))
    lines = [f"Teacher margins of {len(margins):,} cached examples:"]
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        share = count / max(len(margins), 1)
        bar = "#" * round(WIDTH * share)
        lines.append(f"  {low:.1f} to {high:.1f}  {share:6.1%}  {bar}")
    threshold = policy.gate_defaults().get("margin")
    if threshold is not None:
        selected = float((margins > threshold).mean())
        lines.append(f"Above the threshold {threshold}: {selected:.1%}.")
    return "\n".join(lines)
