"""Fixed-sequence testing, from the safest threshold on."""

import numpy as np


def certified_from_the_top(shown):
    """Candidates that stand when testing stops at the first failure.

    Testing starts at the safest threshold (delegate everything) and goes down
    through *every* candidate. Stopping at the first that is not shown needs
    no correction for their number: to certify a threshold that breaks the
    guarantee, the test must have failed at the highest such threshold, and that
    one is the same whatever the data (Learn Then Test, arXiv 2110.01052,
    fixed-sequence testing). Because every decision that the examples can
    tell apart is a candidate, none is left out.

    Args:
        shown: bool array `(candidates,)`: the test's verdict at each.

    Returns:
        Bool array: true from the end down to the first failure.
    """
    failures = np.flatnonzero(~shown)
    certified = np.zeros(len(shown), dtype=bool)
    certified[failures[-1] + 1 if failures.size else 0 :] = True
    return certified
