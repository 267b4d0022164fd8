"""`runtime="compiled"`: the interpreter's decisions, and no crash."""

import concurrent.futures
import json
import os
import subprocess
import sys
import zipfile

import ai_edge_litert.compiled_model
import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle.manifest import write_manifest
from keras_cascade.runtime import (
    AsyncEdgeCascade,
    EdgeCascade,
    compiled_student,
)
from tests.helpers.documents import ROOT

SHAPE, CLASSES = (9, 9, 1), 5
SIZES = (1, 2, 7, 64, 256)
#: Runs both runtimes in a process of its own, whose exit code says whether
#: LiteRT crashed.
BOTH = f"""
import json, sys
import numpy as np
from keras_cascade.runtime import EdgeCascade

x = np.load(sys.argv[2])
flips = rows = 0
gap = 0.0
with (
    EdgeCascade.load(sys.argv[1]) as interpreter,
    EdgeCascade.load(sys.argv[1], runtime="compiled") as compiled,
):
    parts = [x[row : row + 1] for row in range(len(x))]
    parts += [x[:size] for size in {SIZES}]
    for part in parts:
        one, other = interpreter.predict(part), compiled.predict(part)
        rows += len(part)
        flips += int((one.source != other.source).sum())
        for name in ("score", "probabilities"):
            moved = abs(getattr(one, name) - getattr(other, name)).max()
            gap = max(gap, float(moved))
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
print(json.dumps([rows, flips, gap]))
"""
pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Dict of quantization to a bundle of small images, and its rows."""
    folder = tmp_path_factory.mktemp("compiled")
    x = np.random.default_rng(0).random((300, *SHAPE), dtype="float32")
    y = np.arange(300) % CLASSES
    np.save(folder / "x.npy", x)
    keras.utils.set_random_seed(1)
    layers = keras.layers

    def model(units):
        return keras.Sequential(
            [
                keras.Input(SHAPE),
                layers.Conv2D(units, 3, activation="relu"),
                layers.Flatten(),
                layers.Dense(CLASSES),
            ]
        )

    cascade = kc.Cascade(model(4), model(2))
    cascade.compile(optimizer="adam")
    cascade.calibrate((x, y), kc.MaxDelegationRate(0.5))
    paths = {"rows": folder / "x.npy"}
    for quantization in (None, "int8"):
        path = folder / str(quantization)
        cascade.export(path, quantization=quantization)
        paths[quantization] = path
    return paths


@pytest.fixture(scope="module")
def path(bundles):
    return bundles[None]


@pytest.fixture(scope="module")
def x(bundles):
    return np.load(bundles["rows"])


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_decides_as_the_interpreter_and_ends_no_process(bundles, quantization):
    done = subprocess.run(
        [sys.executable, "-c", BOTH, bundles[quantization], bundles["rows"]],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    rows, flips, gap = json.loads(done.stdout)
    assert (rows, flips) == (300 + sum(SIZES), 0)
    assert gap <= 1e-6  # the same kernels, in another order at most


def test_the_attributes_name_what_runs(path):
    with EdgeCascade.load(path) as edge:
        assert (edge.runtime, edge.accelerator) == ("interpreter", "cpu")
    with EdgeCascade.load(path, runtime="compiled") as edge:
        assert (edge.runtime, edge.accelerator) == ("compiled", "cpu")


async def _asked(path, x):
    async with AsyncEdgeCascade.load(path, runtime="compiled") as edge:
        return edge.edge.runtime, await edge.predict(x)


def test_in_an_event_loop(path, x):
    import asyncio

    runtime, prediction = asyncio.run(_asked(path, x[:3]))
    assert runtime == "compiled"
    with EdgeCascade.load(path) as edge:
        expected = edge.predict(x[:3])
    np.testing.assert_array_equal(prediction.source, expected.source)


def test_nothing_is_ever_resized(path, x, monkeypatch):
    compiled = ai_edge_litert.compiled_model.CompiledModel

    def resized(*_, **__):
        raise AssertionError("resized")

    monkeypatch.setattr(compiled, "resize_input_tensor", resized)
    monkeypatch.setattr(compiled, "resize_input_tensor_by_name", resized)
    with EdgeCascade.load(path, runtime="compiled") as edge:
        assert len(edge.predict(x[:7]).labels) == 7
        student = edge._student
        with pytest.raises(BundleError, match=r"takes rows of \(9, 9, 1\)"):
            student.run({"input": x[:, :5]})


def test_threads_and_a_forked_child(path, x):
    with EdgeCascade.load(path, runtime="compiled") as edge:
        expected = edge.predict_alone(x).probabilities
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            answers = pool.map(lambda _: edge.predict_alone(x), range(6))
            for answer in answers:
                np.testing.assert_array_equal(answer.probabilities, expected)
        child = os.fork()
        if child == 0:
            try:
                same = (edge.predict_alone(x).probabilities == expected).all()
                edge.close()
                os._exit(0 if same else 3)
            except BaseException:
                os._exit(4)
        assert os.waitpid(child, 0)[1] == 0
        np.testing.assert_array_equal(
            edge.predict_alone(x).probabilities, expected
        )
    with pytest.raises(RuntimeError, match="closed"):
        edge.predict(x)


@pytest.mark.parametrize("accelerator", ["gpu", "npu"])
def test_an_accelerator_that_is_not_there(path, x, accelerator, monkeypatch):
    compiled = ai_edge_litert.compiled_model.CompiledModel
    real = compiled.from_buffer

    def from_buffer(content, options):
        # Also on a machine that has one.
        if int(options.hardware_accelerators) != 1:
            raise RuntimeError("no such\nadapter")
        return real(content, options=options)

    monkeypatch.setattr(compiled, "from_buffer", from_buffer)
    message = rf"accelerator='{accelerator}' is not used.*on the CPU.*no such"
    with (
        pytest.warns(UserWarning, match=message) as caught,
        EdgeCascade.load(
            path, runtime="compiled", accelerator=accelerator
        ) as edge,
    ):
        assert edge.accelerator == "cpu"
        assert len(edge.predict(x[:2]).labels) == 2
    assert caught[0].filename == __file__
    assert "\n" not in str(caught[0].message)


class _Altered:
    """An accelerator that answers without an error, but wrongly."""

    def __init__(self, alter):
        self.alter = alter
        self.real = compiled_student._Model

    def __call__(self, content, num_threads, accelerator, inputs, outputs):
        model = self.real(content, num_threads, "cpu", inputs, outputs)
        if accelerator != "cpu":
            run = model.run
            model.run = lambda inputs: self.alter(run(inputs))
        return model


ALTERATIONS = {
    "zeros": lambda answer: {k: 0 * v for k, v in answer.items()},
    "nan": lambda answer: {**answer, "score": answer["score"] * np.nan},
    "other classes": lambda answer: {
        **answer,
        "probabilities": answer["probabilities"][:, ::-1],
    },
    "constant": lambda answer: {
        **answer,
        "score": np.full(1, 0.3, "float32"),
        "probabilities": np.full((1, CLASSES), 1 / CLASSES, "float32"),
    },
    "delegate": lambda answer: {**answer, "delegate": 1 - answer["delegate"]},
}


@pytest.mark.parametrize("with_probes", [True, False])
@pytest.mark.parametrize("how", ALTERATIONS)
def test_an_accelerator_that_differs(path, how, with_probes, monkeypatch):
    """With the manifest's probe rows, or those of the interpreter."""
    bundle = Bundle.load(path)
    if not with_probes:
        bundle.manifest["student"] = {**bundle.manifest["student"]}
        del bundle.manifest["student"]["probes"]
    monkeypatch.setattr(compiled_student, "_Model", _Altered(ALTERATIONS[how]))
    with pytest.warns(UserWarning, match="probe rows"):
        edge = EdgeCascade(bundle, None, runtime="compiled", accelerator="gpu")
    assert edge.accelerator == "cpu"


def test_an_accelerator_that_rounds(path, x, monkeypatch):
    def rounded(answer):
        return {
            name: value.astype("float16").astype(value.dtype)
            for name, value in answer.items()
        }

    monkeypatch.setattr(compiled_student, "_Model", _Altered(rounded))
    with EdgeCascade.load(path, runtime="compiled", accelerator="gpu") as edge:
        assert edge.accelerator == "gpu"
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            models = pool.map(
                lambda _: (edge.predict(x[:2]), edge._student._model())[1],
                range(6),
            )
            assert len({id(model) for model in models}) == 1
        edge._student.close()
        assert len(edge.predict(x[:2]).labels) == 2


def test_another_student_on_the_cpu_is_an_error(path):
    bundle = Bundle.load(path)
    probes = dict(bundle.manifest["student"]["probes"])
    probes["score"] = [one + 0.5 for one in probes["score"]]
    bundle.manifest["student"] = {
        **bundle.manifest["student"],
        "probes": probes,
    }
    with pytest.raises(BundleError, match=r"not compute .*`score` of 8 probe"):
        EdgeCascade(bundle, None, runtime="compiled")
    EdgeCascade(bundle, None).close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "onnx"}, r"`runtime` out of \['interpreter', 'compiled'"),
        ({"runtime": "compiled", "accelerator": "tpu"}, "`accelerator` out of"),
        ({"accelerator": "gpu"}, "goes with runtime='compiled'"),
    ],
)
def test_arguments(path, options, message):
    with pytest.raises(ValueError, match=message):
        EdgeCascade.load(path, **options)


def test_a_file_of_0_1_0(tmp_path):
    with zipfile.ZipFile(ROOT / "tests/files_of_0_1_0/files.zip") as files:
        files.extractall(tmp_path)
    path = tmp_path / "bundle_numbers"
    with pytest.raises(BundleError, match=r"not a portable file.*Export"):
        EdgeCascade.load(path, runtime="compiled")


def test_an_operating_point_of_another_runtime(path, tmp_path):
    import shutil

    copy = tmp_path / "bundle"
    shutil.copytree(path, copy)
    manifest = Bundle.load(copy).manifest
    point = {**manifest["operating_points"][0], "name": "fitted"}
    point |= {"runtime": "compiled", "threshold": 2.0}
    manifest["operating_points"] = [*manifest["operating_points"], point]
    write_manifest(manifest, copy / "manifest.json")
    with EdgeCascade.load(
        copy, runtime="compiled", operating_point="fitted"
    ) as edge:
        assert edge.operating_point["name"] == "fitted"
    with pytest.warns(UserWarning, match="'fitted' was fitted on the scores"):
        EdgeCascade.load(copy, operating_point="fitted").close()
