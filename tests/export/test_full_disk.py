"""An export on a full disk leaves the target unchanged."""

import shutil
import subprocess
import sys

import pytest

from keras_cascade.bundle import Bundle
from tests.export import full_disk


@pytest.mark.parametrize("replacing", [False, True])
def test_a_full_disk(bundle_path, tmp_path, replacing):
    path = tmp_path / "bundle"
    if replacing:
        shutil.copytree(bundle_path, path)
    done = subprocess.run(
        [sys.executable, "-m", full_disk.__name__, path],
        capture_output=True,
        text=True,
        check=True,
    )
    errors = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(errors) == len(full_disk.LIMITS)
    for kind, text in errors:
        assert kind == "ExportError"
        assert "Is there room on the disk?" in text
    if replacing:
        Bundle.load(path)
        path = path.rename(tmp_path.parent / f"{tmp_path.name}-kept")
    assert list(tmp_path.iterdir()) == []
