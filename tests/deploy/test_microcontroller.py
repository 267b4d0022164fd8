"""`deploy/microcontroller`: what needs no TFLite Micro, by g++."""

import importlib.util
import json
import shutil
import subprocess

import numpy as np
import pytest

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.export.tflite_micro_student import TFLiteMicroStudent
from keras_cascade.runtime import EdgeCascade, SavedModelTeacher
from keras_cascade.serving.loaded_teacher import LoadedTeacher
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits, Tokens
from keras_cascade.serving.teacher_service import TeacherService
from tests.helpers import deploy_vectors
from tests.helpers.documents import ROOT
from tests.helpers.http_server_thread import HttpServerThread

FOLDER = ROOT / "deploy" / "microcontroller"
FASHION = ROOT / "saved_models" / "fashion_mnist"
VECTORS = json.loads(deploy_vectors.FILE.read_text("utf-8"))

pytestmark = pytest.mark.toolchain


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function: the output of `test_cascade` with arguments and input."""
    folder = tmp_path_factory.mktemp("microcontroller")
    _run("make", "test", f"BUILD={folder}", cwd=FOLDER)
    program = folder / "test_cascade"
    return lambda *arguments, input=b"": _run(program, *arguments, input=input)


@pytest.fixture(scope="module")
def make_bundle():
    """The module `make_bundle.py`."""
    spec = importlib.util.spec_from_file_location(
        "make_bundle", FOLDER / "make_bundle.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(*command, input=b"", cwd=None):
    done = subprocess.run(
        command, input=input, cwd=cwd, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_decisions(run):
    cases, lines = VECTORS["decisions"], []
    for case in cases:
        student, teacher = case["student"], case["teacher"] or {}
        name = case["operating_point"]
        score = student["score"]
        thresholds = np.atleast_1d(VECTORS["thresholds"][name]).tolist()
        line = [name, len(thresholds), *thresholds, case["on_failure"], 3]
        line += student["probabilities"]
        line += ["nan" if score is None else score, student["delegate"]]
        line += [1, *teacher["logits"]] if "logits" in teacher else [2]
        lines.append(" ".join(map(str, line)))
    printed = run("decide", input="\n".join(lines).encode())
    for case, line in zip(cases, printed.decode().splitlines(), strict=True):
        label, source, is_error, *probabilities = line.split()
        expected = case["expected"]
        assert (is_error == "1") == ("raises" in expected), case["name"]
        if "raises" in expected:
            continue
        assert (int(label), source) == (expected["label"], expected["source"])
        np.testing.assert_allclose(
            np.array(probabilities, float), expected["probabilities"], atol=1e-6
        )


def test_rows_far_outside_of_the_range(run):
    for case in VECTORS["rows"]:
        row = ["nan" if one is None else str(one) for one in case["row"]]
        if len(row) == 4:  # the size is a constant there
            printed = run("near", "0", "1", *row)
            assert printed == (b"1\n" if case["error"] is None else b"0\n")


@pytest.mark.parametrize(
    "case", VECTORS["quantizations"], ids=lambda case: case["dtype"]
)
def test_integers_in_the_place_of_floats(run, case):
    limits = np.iinfo(case["dtype"])
    numbers = [*case["quantization"].values(), limits.min, limits.max]
    printed = run("quantize", *map(str, [*numbers, *case["values"]]))
    assert [int(one) for one in printed.split()] == case["integers"]


def test_a_real_server_is_asked(run, make_bundle, bundle_path):
    bundle = Bundle.load(bundle_path)
    content = bundle.read("student.tflite")
    header = make_bundle.bundle_header(bundle, content, 4096)
    row = np.random.default_rng(0).normal(size=(1, 6)).astype("float32")
    teacher = SavedModelTeacher(bundle_path / "teacher" / "1").logits
    expected = teacher({"input": row})[0]
    described = '"name":"input","datatype":"FP32","shape":[1,6]'
    assert make_bundle.quoted(described) in header
    assert bundle.teacher_identity in header

    def service():
        settings, metrics = Limits(), ServerMetrics()
        loaded = LoadedTeacher(bundle, teacher, settings, metrics)
        return TeacherService(loaded, settings, Tokens(["secret"]), metrics)

    def answer(host, identity, token):
        head = run("request", host, "24", identity, described, token)
        with server.connect() as connection:
            connection.sendall(head + row.tobytes())
            response = connection.makefile("rb").read()
        cut = run("answer", identity, "4", input=response[:-1])
        if response.startswith(b"HTTP/1.1 200"):
            assert b"not complete" in cut
        return run("answer", identity, "4", input=response)

    with HttpServerThread(service) as server:
        host = f"127.0.0.1:{server.port}"
        identity = bundle.teacher_identity
        logits = answer(host, identity, "secret").split()
        np.testing.assert_allclose(
            np.array(logits, float), expected, rtol=1e-6, atol=1e-6
        )
        assert b"not the bundle's" in answer(host, "0" * 64, "secret")
        assert b"with an error" in answer(host, identity, "other")


def test_answers(run):
    """Those of the vectors are JSON, which is not asked for: no logits."""
    identity = VECTORS["identity"]
    said = {"429": b"error", "401": b"error", "not the bundle's": b"not the"}
    for case in VECTORS["answers"]:
        head = [f"HTTP/1.1 {case['status']} X"]
        headers = {**case["headers"], "content-length": len(case["body"])}
        head += [f"{name}: {value}" for name, value in headers.items()]
        response = "\r\n".join([*head, "", case["body"]]).encode()
        printed = run("answer", identity, "3", input=response)
        if not case["headers"]:  # the header is what is looked at
            assert b"not the bundle's" in printed
        else:
            assert said.get(case["error"], b"no usable logits") in printed


def test_the_generated_header_compiles(make_bundle, tmp_path):
    bundle = Bundle.load(FASHION)
    shutil.copy(FOLDER / "cascade.h", tmp_path)
    for name, text in make_bundle.generated(bundle, 8192).items():
        (tmp_path / "generated").mkdir(exist_ok=True)
        (tmp_path / "generated" / name).write_text(text)
    (tmp_path / "main.cc").write_text(
        '#include "generated/bundle.h"\n#include <cstdio>\n'
        "using namespace keras_cascade;\n"
        "int main() {\n"
        '  std::printf("%d %d %d %d %.9g %s %s", kStudent[5], kInputSize,\n'
        "    kClassCount, kPointCount, double(kOperatingPoints[0].threshold),\n"
        "    kClasses[0], kTeacherIdentity);\n}\n"
    )
    main, student = tmp_path / "main.cc", tmp_path / "generated" / "student.cc"
    _run("g++", "-std=c++17", "-Wall", "-Werror", main, student,
         "-o", tmp_path / "main")  # fmt: skip
    (point,) = bundle.manifest["operating_points"]
    content = bundle.read("student.tflite")
    assert _run(tmp_path / "main").decode().split(" ", 6) == [
        str(content[5]),
        "784",
        "10",
        "1",
        f"{np.float32(point['threshold']):.9g}",
        bundle.classes[0],
        bundle.teacher_identity,
    ]


def test_class_thresholds_and_a_remote_teacher_in_the_header(
    make_bundle, tmp_path
):
    whole = Bundle.load(FASHION)
    thresholds = [0.1 * number for number in range(10)]
    (point,) = whole.manifest["operating_points"]
    points = [point, point | {"name": "x", "class_thresholds": thresholds}]
    remote = {"kind": "Url", "url": None, "identity": None, "output": "out"}
    changes = {"operating_points": points, "teacher": None}
    bundle = Bundle(whole.path, whole.manifest | changes)
    bundle.manifest["remote_teacher"] = remote
    content = whole.read("student.tflite")
    shutil.copy(FOLDER / "cascade.h", tmp_path)
    (tmp_path / "generated").mkdir()
    (tmp_path / "generated" / "bundle.h").write_text(
        make_bundle.bundle_header(bundle, content, 4096)
    )
    (tmp_path / "main.cc").write_text(
        '#include "generated/bundle.h"\n#include <cstdio>\n'
        "using namespace keras_cascade;\n"
        "int main() {\n"
        '  std::printf("%d %d %s", kOperatingPoints[0].class_thresholds ==\n'
        "    nullptr, kTeacherIdentity == nullptr, kTeacherOutput);\n"
        "  for (int i = 0; i < kClassCount; ++i)\n"
        '    std::printf(" %.9g",\n'
        "      double(kOperatingPoints[1].class_thresholds[i]));\n}\n"
    )
    _run("g++", "-std=c++17", "-Wall", "-Werror", tmp_path / "main.cc",
         "-o", tmp_path / "main")  # fmt: skip
    printed = _run(tmp_path / "main").decode().split()
    assert printed[:3] == ["1", "1", "out"]
    assert printed[3:] == [f"{np.float32(one):.9g}" for one in thresholds]
    points[1]["class_thresholds"] = thresholds[:9]
    with pytest.raises(BundleError, match="9 class thresholds for 10"):
        make_bundle.bundle_header(bundle, content, 4096)


def test_every_operation_of_a_gate_has_a_name_of_the_resolver(make_bundle):
    """Names of `micro_mutable_op_resolver.h`, for what students here have."""
    made = {
        make_bundle.resolver_name(name)
        for name in (
            "CAST", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED",
            "GREATER_EQUAL", "LOG_SOFTMAX", "MAX_POOL_2D", "MINIMUM",
            "REDUCE_MAX", "SELECT_V2", "STRIDED_SLICE", "TRANSPOSE_CONV",
        )
    }  # fmt: skip
    assert made == {
        "Cast", "Conv2D", "DepthwiseConv2D", "FullyConnected", "GreaterEqual",
        "LogSoftmax", "MaxPool2D", "Minimum", "ReduceMax", "SelectV2",
        "StridedSlice", "TransposeConv",
    }  # fmt: skip


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda c: c["why"])
def test_a_refused_manifest_makes_no_code(
    make_bundle, case, tmp_path, monkeypatch
):
    (tmp_path / "manifest.json").write_text(json.dumps(case["manifest"]))
    output = tmp_path / "generated"
    arguments = ["make_bundle.py", str(tmp_path), "--output", str(output)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(BundleError):
        make_bundle.main()
    assert not output.exists()


def test_the_student_in_tflite_micro_is_decided_as_by_edge_cascade(run):
    """Outputs of the `tflite-micro` wheel, decided by the C++ code."""
    rng = np.random.default_rng(0)
    powers = rng.integers(1, 9, (100, 1, 1, 1))
    x = (rng.random((100, 28, 28, 1)) ** powers).astype("float32")
    student = TFLiteMicroStudent(
        (FASHION / "student.tflite").read_bytes(), "student.tflite"
    )
    outputs = student.run({"input": x})
    lines = [
        " ".join(
            map(str, ["default", 1, 0, "abstain", 10, *probabilities, *rest])
        )
        for probabilities, *rest in zip(
            outputs["probabilities"],
            outputs["score"],
            outputs["delegate"].astype(int),
            [2] * len(x),
            strict=True,
        )
    ]
    printed = run("decide", input="\n".join(lines).encode()).decode()
    made = [line.split()[:2] for line in printed.splitlines()]
    with EdgeCascade.load(FASHION, on_failure="abstain") as edge:
        expected = edge.predict(x)
    assert 0 < (expected.source == "edge").sum() < len(x)
    assert made == [
        [str(label), source]
        for label, source in zip(expected.labels, expected.source, strict=True)
    ]
