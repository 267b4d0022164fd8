"""Scores of a float16 student, extreme logits included."""

import itertools

import numpy as np
import pytest

from tests.helpers.gate_gauntlet import GAUNTLET, each_gate, scores

EXTREMES = np.array([-60000, -1, 0, 1, 60000], "float16")
#: Every finite float16 number, in order.
FLOAT16 = np.arange(2**16, dtype="uint16").view("float16")
FLOAT16 = np.unique(FLOAT16[np.isfinite(FLOAT16)])


@each_gate
def test_extreme_logits_give_the_scores_of_float32(make, reference):
    logits = np.array(list(itertools.product(EXTREMES, repeat=5)))
    found = scores(make(), logits)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_allclose(
        found, reference(logits.astype("float32")), rtol=1e-4, atol=1e-5
    )


# A learned gate may take a higher logit for a bad sign.
MONOTONE = [name for name in GAUNTLET if name != "learned"]


@pytest.mark.parametrize("name", MONOTONE)
@pytest.mark.parametrize(
    "others",
    [(1.5, 1.0, 0.0, -2.0), (-3, -3, -3, -3), (0, 0, 0, -60000), (60000,) * 4],
)
def test_a_higher_top_logit_never_scores_lower(name, others):
    # In class and abstain gates logit 0 is in-domain, and may rise from below.
    start = -np.inf if name in ("class", "abstain") else max(others)
    top = FLOAT16[start <= FLOAT16]
    logits = np.empty((len(top), 5), "float16")
    logits[:, 0], logits[:, 1:] = top, others
    found = scores(GAUNTLET[name][0](), logits)
    # Scores are right to some units in the last place of float32; logits of
    # float16 closer together than that may look swapped by so much.
    rounding = 8 * np.spacing(np.maximum(1, np.abs(found)).astype("float32"))
    falls = found[:-1] - found[1:]
    assert (falls <= rounding[1:]).all()
    if len(top) > 1000:
        assert found[-1] > found[0] + 0.01
