"""Probe rows of an exported teacher."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from keras_cascade.bundle import Bundle
from keras_cascade.export.teacher_probes import teacher_probes
from keras_cascade.runtime import SavedModelTeacher
from keras_cascade.runtime.teachers.teacher_identity import TeacherIdentity

SPECS = [
    {"name": "input", "shape": [None, 6], "dtype": "float32", "range": [-1, 1]}
]
EXAMPLE = {"input": np.zeros((2, 6), "float32")}
WEIGHTS = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")


def probes_of(logits, specs=SPECS, example=EXAMPLE):
    return teacher_probes(SimpleNamespace(logits=logits), specs, example, {})


def linear(weights):
    return lambda inputs: inputs["input"] @ weights


def test_the_bundles_own(bundle_path):
    """The manifest's numbers against the SavedModel, and the model card."""
    bundle = Bundle.load(bundle_path)
    probes = bundle.manifest["teacher"]["probes"]
    assert (probes["rows"], probes["shapes"]) == (8, {"input": [6]})
    identity = TeacherIdentity.of_bundle(bundle, "probe")
    inputs = identity.probe_inputs()
    low, high = bundle.inputs[0]["range"]
    assert low <= inputs["input"].min() < inputs["input"].max() <= high
    logits = SavedModelTeacher(bundle.teacher_folder).logits(inputs)
    np.testing.assert_allclose(logits, probes["logits"], atol=1e-5)
    assert probes["tolerance"] == pytest.approx(0.02 * logits.std())
    card = (bundle.path / "README.md").read_text("utf-8")
    assert "8 probe rows" in card


def test_every_exchange_of_two_classes_is_beyond_the_tolerance():
    probes = probes_of(linear(WEIGHTS))["probes"]
    logits = np.array(probes["logits"])
    for one, other in itertools.combinations(range(5), 2):
        order = np.arange(5)
        order[[one, other]] = other, one
        assert np.abs(logits[:, order] - logits).max() > 2 * probes["tolerance"]


def test_more_rows_where_eight_do_not_tell_two_classes_apart():
    """Two classes differ only where a value is near the range's end."""

    def logits(inputs):
        found = inputs["input"] @ WEIGHTS
        found[:, 1] = found[:, 0] + 9 * (inputs["input"][:, 0] > limit)
        return found

    first = teacher_inputs(64)[:, 0]
    limit = np.sort(first[:8])[-1]  # above all of the first eight
    assert (first > limit).any()
    assert probes_of(logits)["probes"]["rows"] > 8


def teacher_inputs(rows):
    seen = []

    def logits(inputs):
        seen.append(inputs["input"])
        return np.repeat(inputs["input"][:, :1], 5, axis=1)  # alike: more rows

    probes_of(logits)
    return max(seen, key=len)[:rows]


@pytest.mark.parametrize(
    ("logits", "why"),
    [
        (lambda x: np.full((len(x["input"]), 5), np.nan), "NaN"),
        (lambda x: np.zeros((len(x["input"]), 5)), "100% of its classes"),
        (lambda x: np.repeat(x["input"][:, :1], 5, axis=1), "100%"),
        (lambda x: x["input"] @ WEIGHTS + len(x["input"]), "vary"),
    ],
)
def test_none_where_they_could_not_tell(logits, why):
    found = probes_of(logits)
    assert list(found) == ["why_no_probes"]
    assert why in found["why_no_probes"]


def test_few_classes_may_be_alike():
    """Of 100 classes two are the same: the others are still told apart."""
    weights = np.random.default_rng(1).normal(size=(6, 100)).astype("float32")
    weights[:, 1] = weights[:, 0]
    assert probes_of(linear(weights))["probes"]["rows"] == 64


def test_many_classes_do_not_make_a_long_manifest():
    weights = np.random.default_rng(1).normal(size=(6, 20_000))
    probes = probes_of(linear(weights.astype("float32")))["probes"]
    assert probes["rows"] == 8


def test_free_sizes_are_the_examples():
    specs = [{**SPECS[0], "shape": [None, None, 6]}]
    example = {"input": np.zeros((2, 3, 6), "float32")}
    found = probes_of(
        lambda x: x["input"].mean(axis=1) @ WEIGHTS, specs, example
    )
    assert found["probes"]["shapes"] == {"input": [3, 6]}
