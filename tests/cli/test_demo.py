"""Demo on a small data set, and after an interrupt."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from keras_cascade.cli import demo, reference_models
from keras_cascade.evaluation.report import sampled

KEYS = {
    "dataset", "splits", "student_accuracy", "teacher_accuracy",
    "cascade_accuracy", "delegation_rate", "amortized_cost", "threshold",
    "served_over", "rows_from_edge", "rows_from_cloud", "decision_flips",
}  # fmt: skip


@pytest.fixture(scope="module")
def small():
    return reference_models.Settings(64, 4, 2, 4, 3, 0.3)


def test_everything_it_writes(tmp_path, monkeypatch, small):
    monkeypatch.setattr(reference_models, "SMALL", small)
    console = Console(quiet=True)
    report = demo.run_demo("digits", tmp_path, console)
    written = json.loads((tmp_path / "report.json").read_text())
    assert set(written) >= KEYS
    assert written["served_over"] == "http"
    rows = written["rows_from_edge"] + written["rows_from_cloud"]
    assert rows == written["splits"]["test"] == 449
    assert written["rows_from_cloud"] == round(
        written["delegation_rate"] * rows
    )
    assert written["decision_flips"] == 0
    expected = written["costs"]["student"] + written["delegation_rate"]
    assert written["amortized_cost"] == pytest.approx(expected)
    # The curve, measured in Keras, passes where the served bundle is.
    curve = written["deferral_curve"]
    nearest = np.abs(
        np.array(curve["delegation_rate"]) - written["delegation_rate"]
    ).argmin()
    assert curve["accuracy"][nearest] == pytest.approx(
        written["cascade_accuracy"], abs=0.02
    )
    # The page's slider starts at the threshold that is served.
    slider = written["slider"]
    assert slider["threshold"][slider["start"]] == written["threshold"]
    assert slider["delegation_rate"][slider["start"]] == pytest.approx(
        written["delegation_rate"]
    )
    assert written["fingerprints"][-1]["examples"] == 449
    page = (tmp_path / "report.html").read_text()
    assert 'type="range"' in page and "data:image/png;base64," in page
    assert "http://" not in page and "https://" not in page
    assert f"{100 * report['cascade_accuracy']:.2f} %" in page
    assert (tmp_path / "deferral_curve.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "bundle" / "manifest.json").is_file()
    again = demo.run_demo("digits", tmp_path, console, overwrite=True)
    assert again["splits"] == report["splits"]


def test_a_long_curve_is_sampled_with_both_ends():
    from keras_cascade.evaluation import deferral_curve

    curve = deferral_curve(np.arange(5000.0), np.zeros(5000), np.ones(5000))
    points = sampled(curve)
    assert len(points["accuracy"]) == 201
    assert (points["accuracy"][0], points["accuracy"][-1]) == (0.0, 1.0)


def test_ctrl_c_leaves_no_server_behind(tmp_path, bundle_path):
    """Interrupts a process that has just started a server."""
    code = (
        "import sys\n"
        "from keras_cascade.serving import ServerProcess\n"
        f"with ServerProcess({str(bundle_path)!r}, "
        f"{str(tmp_path / 'log')!r}) as server:\n"
        "    print(server.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGINT)
    parent.communicate(timeout=30)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_without_the_page_the_demo_ends_before_it_trains(tmp_path, monkeypatch):
    """The page is built by Node, and a checkout may have none."""
    from keras_cascade.cli.main import run
    from keras_cascade.serving import web_page

    monkeypatch.setattr(web_page, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="npm run build"):
        run(["demo", "--web", "--output", str(tmp_path / "demo")])
    assert not (tmp_path / "demo").exists()
