"""`verify --runtime litertjs`: the same decisions in a headless Chromium."""

import json
import os
import subprocess
import sys

import pytest

import keras_cascade as kc
from tests.helpers.documents import ROOT
from tests.helpers.runtime_bundles import calibrated_cascade

pytestmark = pytest.mark.browser
PACKAGES = ROOT / "web" / "node_modules"


def test_decisions_are_those_of_the_interpreter(tmp_path):
    if not (PACKAGES / "@litertjs/core").exists():
        pytest.fail("Expected LiteRT.js in web/. Run `npm ci` there.")
    cascade, spec = calibrated_cascade(tmp_path, kc.MaxDelegationRate(0.3))
    bundle = cascade.export(tmp_path / "bundle")
    # In a process of its own: Playwright runs once in each.
    done = subprocess.run(
        [
            *(sys.executable, "-m", "keras_cascade.cli", "verify"),
            *(str(bundle.path), "--data", spec, "--json"),
            *("--runtime", "litertjs"),
        ],
        env=os.environ | {"KERAS_CASCADE_NODE_MODULES": str(PACKAGES)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0
    numbers = json.loads(done.stdout)["runtime"]
    assert numbers["examples"] > 50
    assert numbers["decision_flips"] == numbers["not_finite"] == 0
    assert numbers["max_probability_difference"] <= 1e-5
