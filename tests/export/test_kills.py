"""Exports that are killed: a whole bundle is there, or none."""

import json
import subprocess
import sys
from pathlib import Path

CODE = """
import json
from benchmarks.export_kills import run
print(json.dumps(run(4, modes=("float16",))))
"""


def test_a_kill_leaves_a_whole_bundle_or_none():
    """A handful; `python -m benchmarks.export_kills` does 200."""
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == 4
    assert found["broken"] == 0
    assert sum(sum(one.values()) for one in found["found"].values()) == 4
