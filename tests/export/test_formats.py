"""`Cascade.export`: formats by name, each with its own arguments."""

import inspect

import pytest

import keras_cascade as kc
from keras_cascade.export import formats


def test_an_unknown_format_is_named(cascade, tmp_path):
    with pytest.raises(ValueError, match=r"Expected format 'bundle'.*'tflite'"):
        cascade.export(tmp_path / "x", "tflite")


@pytest.mark.parametrize(
    ("format", "argument"),
    [
        ("litert", {"overwrite": True}),
        ("onnx", {"quantization": "int8"}),
        ("tf_saved_model", {"class_names": ["a", "b", "c", "d"]}),
        ("bundle", {"part": "teacher"}),
    ],
)
def test_an_argument_that_a_format_does_not_take(
    cascade, tmp_path, format, argument
):
    (name,) = argument
    with pytest.raises(
        ValueError, match=f"arguments of format '{format}': .*Received: {name}"
    ):
        cascade.export(tmp_path / "x", format, **argument)
    assert not list(tmp_path.iterdir())


def test_every_argument_of_every_exporter_can_be_given():
    given = set(inspect.signature(kc.Cascade.export).parameters)
    for exporter in formats.EXPORTERS.values():
        _, path, *others = inspect.signature(exporter).parameters
        assert {path, *others} <= given


def test_the_progress_argument_of_keras_is_accepted(cascade, blobs, tmp_path):
    cascade.fit(*blobs(64), verbose=0)
    cascade.export(tmp_path / "a.tflite", format="litert", verbose=False)
    cascade.calibrate(
        blobs(200, seed=5), kc.MaxDelegationRate(0.5, tolerance=0.5)
    )
    bundle = cascade.export(tmp_path / "bundle", verbose=False)
    assert bundle.path == (tmp_path / "bundle").resolve()
