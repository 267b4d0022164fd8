"""`verify --runtime litertjs`: the same decisions in a headless Chromium."""

import json

import pytest

import keras_cascade as kc
from keras_cascade.cli.main import run as run_command
from tests.helpers.documents import ROOT
from tests.helpers.runtime_bundles import calibrated_cascade

pytestmark = pytest.mark.browser
PACKAGES = ROOT / "web" / "node_modules"


@pytest.mark.skipif(
    not (PACKAGES / "@litertjs/core").exists(),
    reason="needs `npm ci` in web/",
)
def test_decisions_are_those_of_the_interpreter(tmp_path, monkeypatch, capsys):
    cascade, spec = calibrated_cascade(tmp_path, kc.MaxDelegationRate(0.3))
    bundle = cascade.export(tmp_path / "bundle")
    monkeypatch.setenv("KERAS_CASCADE_NODE_MODULES", str(PACKAGES))
    arguments = ["verify", str(bundle.path), "--data", spec, "--json"]
    assert run_command([*arguments, "--runtime", "litertjs"]) == 0
    numbers = json.loads(capsys.readouterr().out)["runtime"]
    assert numbers["examples"] > 50
    assert numbers["decision_flips"] == numbers["not_finite"] == 0
    assert numbers["max_probability_difference"] <= 1e-5
