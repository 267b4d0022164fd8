"""Fixtures: the command line in this process, and data for it."""

import numpy as np
import pytest

from keras_cascade.cli.main import run as run_command


@pytest.fixture
def run(capsys):
    """Runs a command and returns its output; raises its errors."""

    def invoke(*arguments):
        assert run_command([str(a) for a in arguments]) == 0
        return capsys.readouterr().out

    return invoke


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """An .npz file of points around four centres, as data spec."""
    rng = np.random.default_rng(0)
    y = np.arange(600) % 4
    x = rng.normal(size=(4, 6))[y] + 0.5 * rng.normal(size=(600, 6))
    file = tmp_path_factory.mktemp("data") / "points.npz"
    np.savez(file, x=x.astype("float32"), y=y)
    return f"npz:{file}"
