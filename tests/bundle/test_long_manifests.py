"""Manifests of many classes: validated as short ones are, and legible."""

import json

import jsonschema
import pytest

from keras_cascade.bundle.manifest import (
    LONG,
    SEAL,
    _shortened,
    _validator,
    check_manifest,
    manifest_text,
    parse_manifest,
    seal,
)
from keras_cascade.errors import BundleError

MANY = 2 * LONG


@pytest.fixture
def manifest(bundle_path):
    """A bundle's manifest with as many classes as are shortened."""
    made = json.loads((bundle_path / "manifest.json").read_text())
    made["classes"] = [f"n{number:08d}" for number in range(MANY)]
    made["teacher"]["probes"]["logits"] = [
        [0.25 * number for number in range(MANY)] for _ in range(8)
    ]
    made["operating_points"][0]["class_thresholds"] = [0.5] * MANY
    made["operating_points"][0]["pooled_classes"] = list(range(MANY))
    return made


LISTS = {
    "classes": lambda m: m["classes"],
    "logits": lambda m: m["teacher"]["probes"]["logits"][3],
    "thresholds": lambda m: m["operating_points"][0]["class_thresholds"],
    "pooled": lambda m: m["operating_points"][0]["pooled_classes"],
}
VALUES = [None, True, 1, -1, 0.5, 2.0, -0.5, "name", "", [1.0], {"a": 1}]


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("index", [0, 1, MANY // 2, MANY - 1])
def test_one_element_is_judged_as_by_the_whole_schema(manifest, name, index):
    verdicts = set()
    for value in VALUES:
        LISTS[name](manifest)[index] = value
        valid = _validator().is_valid(manifest)
        assert _validator().is_valid(_shortened(manifest)) == valid, value
        verdicts.add(valid)
        if not valid:
            with pytest.raises(BundleError, match="not a valid manifest at"):
                check_manifest(manifest)
    assert verdicts == {True, False}


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_list_that_is_too_long_stays_too_long(most):
    schema = {"type": "array", "maxItems": most}
    assert not jsonschema.Draft202012Validator(schema).is_valid(
        _shortened([0.5] * MANY)
    )


def test_text_is_json_with_a_row_of_numbers_per_line(manifest):
    text = manifest_text(manifest)
    read = json.loads(text)
    assert read == {**manifest, SEAL: seal(manifest)}
    assert parse_manifest(text.encode(), "manifest.json") == read
    rows = [line for line in text.splitlines() if len(line) > MANY]
    assert len(rows) == 8 + 2  # of logits, thresholds and pooled classes
    assert '    "n00000000",\n    "n00000001",\n' in text
