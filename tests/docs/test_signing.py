"""Runs the Python of `docs/signing.md`, and checks its table."""

import re
import shutil

from keras_cascade.runtime.teachers.graph_operations import (
    BY_ATTRIBUTE,
    REFUSED,
)
from tests.helpers.documents import blocks, rows, stated_output

DOCUMENT = "docs/signing.md"


def test_the_python_blocks(bundle_path, tmp_path, monkeypatch, capsys):
    shutil.copytree(bundle_path, tmp_path / "my_bundle")
    monkeypatch.chdir(tmp_path)
    names, expected = {}, []
    for block in blocks(DOCUMENT, "python"):
        exec(compile(block, DOCUMENT, "exec"), names)
        expected += stated_output(block)
    assert capsys.readouterr().out.splitlines() == expected
    assert expected


def test_the_operations_that_are_named():
    refused = {*REFUSED, *(name for name, _ in BY_ATTRIBUTE)}
    for _, operations in rows(DOCUMENT, ("kind", "operations, such as")):
        names = set(re.findall(r"`(\w+)`", operations)) - {"saver_def"}
        assert names <= refused
