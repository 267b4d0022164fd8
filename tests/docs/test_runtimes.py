"""Runs the Python blocks of `docs/runtimes.md`, and checks its table."""

import re

import pytest

import keras_cascade as kc
from keras_cascade.cli.main import run as run_command
from keras_cascade.export import measured_runtimes
from keras_cascade.runtime.student_runtimes import RUNTIMES
from tests.helpers.documents import blocks, rows, stated_output
from tests.helpers.runtime_bundles import calibrated_cascade, points

DOCUMENT = "docs/runtimes.md"


def test_the_blocks(tmp_path, monkeypatch, capsys):
    import ai_edge_litert.compiled_model

    compiled = ai_edge_litert.compiled_model.CompiledModel
    real = compiled.from_buffer

    def without_gpu(content, options):
        if int(options.hardware_accelerators) != 1:
            raise RuntimeError("none")
        return real(content, options=options)

    monkeypatch.setattr(compiled, "from_buffer", without_gpu)
    cascade, spec = calibrated_cascade(tmp_path, kc.MaxDelegationRate(0.3))
    cascade.export(tmp_path / "my_bundle")
    monkeypatch.chdir(tmp_path)
    first, second = blocks(DOCUMENT, "python")
    names = {"x": points(8)[0]}
    with pytest.warns(UserWarning, match="is not used"):
        exec(compile(first, DOCUMENT, "exec"), names)
    arguments = ["verify", "my_bundle", "--data", spec]
    arguments += ["--runtime", "compiled", "--refit", "compiled"]
    assert run_command([*arguments, "--json"]) == 0
    exec(compile(second, DOCUMENT, "exec"), names)
    names["edge"].close()
    lines = capsys.readouterr().out.splitlines()
    (shown,) = stated_output(first)
    assert lines[0] == shown
    assert [lines[-1]] == stated_output(second)


def test_the_table_names_every_runtime():
    columns = ("runtime", "in `EdgeCascade.load`", "in `verify --runtime`")
    table = rows(DOCUMENT, (*columns, "what it needs"))
    stated = re.findall(r"`([\w-]+)`", " ".join(row[2] for row in table))
    assert sorted(stated) == sorted(measured_runtimes.NAMES)
    loaded = re.findall(r'`"(\w+)"`', " ".join(row[1] for row in table))
    assert loaded == list(RUNTIMES)
