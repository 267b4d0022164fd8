"""Students' files whose inputs are int8, or pixels of uint8."""

import json
import shutil

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

import keras_cascade as kc
from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle.manifest import MANIFEST, write_manifest
from keras_cascade.errors import ExportError
from keras_cascade.export.bundle_checks import check_bundle
from keras_cascade.export.measured_runtimes import open_measured_runtime
from keras_cascade.export.runtime_checks import compare_runtime
from keras_cascade.export.tflite_file import operations
from keras_cascade.runtime import EdgeCascade
from keras_cascade.runtime.bench import measure, random_inputs
from keras_cascade.runtime.integer_inputs import IntegerInput
from keras_cascade.runtime.student_interpreter import StudentInterpreter
from keras_cascade.utils.answer_form import AnswerForm
from tests.helpers.image_cascades import image_cascade, pixels


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """`(folder, images, labels)` with bundles by their names."""
    folder = tmp_path_factory.mktemp("integers")
    cascade, x, y = image_cascade()
    cascade.export(folder / "int8", quantization="int8", verbose=False)
    cascade.export(
        folder / "int8_io", quantization="int8", io_type="int8", verbose=False
    )
    for name in ("float32", "int8"):
        cascade.export(
            folder / f"{name}_pixels",
            quantization=None if name == "float32" else name,
            input_type="uint8",
            verbose=False,
        )
    return folder, x, y


def answers(content, x, resolver=OpResolverType.AUTO):
    run = Interpreter(
        model_content=content, experimental_op_resolver_type=resolver
    ).get_signature_runner()
    return run(input=x)


def test_int8_inputs_are_those_that_the_file_computed(exported):
    """Without its first operation the file computes what it did before."""
    folder, x, _ = exported
    before, after = (Bundle.load(folder / n) for n in ("int8", "int8_io"))
    assert "QUANTIZE" in operations(before.read("student.tflite"))[0]
    content = after.read("student.tflite")
    assert "QUANTIZE" not in operations(content)[0]
    (spec,) = after.student_inputs
    (detail,) = Interpreter(model_content=content).get_input_details()
    assert spec["dtype"] == np.dtype(detail["dtype"]).name == "int8"
    scale, zero_point = detail["quantization"]
    assert spec["quantization"] == {
        "scale": float(scale), "zero_point": zero_point,
    }  # fmt: skip
    # Independently of this package: the formula of TFLite's specification.
    integers = np.rint(x / np.float32(scale)) + zero_point
    integers = integers.clip(-128, 127).astype("int8")
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    expected = answers(before.read("student.tflite"), x, resolver)
    found = answers(content, integers, resolver)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    assert spec["range"] == [integers.min(), integers.max()]
    # The cascade and its teacher take what they took.
    assert after.inputs == before.inputs
    assert after.teacher_inputs == after.inputs


@pytest.mark.parametrize("runtime", ["interpreter", "compiled"])
@pytest.mark.parametrize("name", ["int8_io", "float32_pixels", "int8_pixels"])
def test_floats_and_raw_integers(exported, name, runtime):
    folder, x, _ = exported
    bundle = Bundle.load(folder / name)
    (spec,) = bundle.student_inputs
    asked = []

    class Teacher:
        def logits(self, inputs):
            asked.append(inputs["input"])
            return np.zeros((len(inputs["input"]), 4), "float32")

    raw = np.rint(
        x / spec["quantization"]["scale"] + spec["quantization"]["zero_point"]
    ).astype(spec["dtype"])
    with EdgeCascade(bundle, Teacher(), runtime=runtime) as edge:
        by_float, by_raw = edge.predict(x), edge.predict(raw)
        one = edge.predict(raw[0])
    for field in ("labels", "score", "probabilities", "source"):
        np.testing.assert_array_equal(
            getattr(by_float, field), getattr(by_raw, field)
        )
    assert one.labels[0] == by_raw.labels[0]
    assert 0 < by_float.delegation_rate < 1
    # The teacher is asked about floats, in the cascade's scale.
    floats, of_raw = asked[:2]
    assert floats.dtype == of_raw.dtype == np.float32
    np.testing.assert_allclose(of_raw, floats, atol=1e-3)


@pytest.mark.parametrize("name", ["int8_io", "float32_pixels", "int8_pixels"])
def test_a_bundle_is_verified_and_timed(exported, name):
    folder, x, y = exported
    bundle = Bundle.load(folder / name)
    batches = [(x[:200], y[:200], None), (x[200:], y[200:], None)]
    checks, measured = check_bundle(bundle, batches)
    assert all(one.passed for one in checks), checks
    point = bundle.operating_point()
    assert measured["delegation_rate"] == point["delegation_rate"]
    for runtime in ("compiled", "tflite-micro"):
        if runtime == "tflite-micro":
            pytest.importorskip("tflite_micro")
        with_runtime = open_measured_runtime(bundle, runtime)
        _, numbers, _ = compare_runtime(bundle, with_runtime, batches)
        with_runtime.close()
        assert numbers["decision_flips"] == 0
        assert numbers["examples"] == len(x)
    result = measure("student", bundle, random_inputs(bundle), [1], [1], 2)
    assert result["latency_ms"][0]["p50"] > 0


@pytest.mark.parametrize("scale", ["0-255", "-1-1"])
@pytest.mark.parametrize("quantization", [None, "int8"])
def test_pixels_of_every_scale(scale, quantization, tmp_path):
    cascade, x, _ = image_cascade(scale)
    bundle = cascade.export(
        tmp_path / "bundle",
        quantization=quantization,
        input_type="uint8",
        verbose=False,
    )
    (spec,) = bundle.student_inputs
    assert (spec["dtype"], spec["range"]) == ("uint8", [0, 255])
    step, zero = {"0-255": (1, 0), "-1-1": (2 / 255, 127.5)}[scale]
    assert spec["quantization"] == {"scale": step, "zero_point": zero}
    raw, _ = pixels(400)
    found = answers(bundle.read("student.tflite"), raw)
    expected = cascade.judge(x, np.zeros(len(x), int))
    tolerance = 1e-5 if quantization is None else 0.1
    np.testing.assert_allclose(found["score"], expected.scores, atol=tolerance)
    if quantization == "int8" and scale == "0-255":
        # From integers to integers: nothing computes in float before it.
        kinds = operations(bundle.read("student.tflite"))[0]
        assert "QUANTIZE" in kinds


def test_a_file_alone(exported, tmp_path):
    cascade, x, y = image_cascade()
    cascade.export(
        tmp_path / "a.tflite",
        "litert",
        quantization="int8",
        io_type="int8",
        calibration_data=(x, y),
    )
    bundle = Bundle.load(exported[0] / "int8_io")
    (spec,) = bundle.student_inputs
    student = StudentInterpreter(tmp_path / "a.tflite")
    student.check([spec], AnswerForm((4,)))
    raw = IntegerInput(spec["dtype"], **spec["quantization"]).quantized(x)
    expected = EdgeCascade(bundle, None).predict_alone(x)
    np.testing.assert_array_equal(
        student.run({"input": raw})["score"], expected.score
    )
    cascade.export(tmp_path / "b.tflite", "litert", input_type="uint8")
    (detail,) = Interpreter(str(tmp_path / "b.tflite")).get_input_details()
    assert detail["dtype"] == np.uint8


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"io_type": "int4"}, ValueError, "`io_type` to be None or one of"),
        ({"input_type": "int8"}, ValueError, "`input_type` to be None or one"),
        ({"io_type": "int8"}, ValueError, "quantization='int8' or 'qat' with"),
        (
            {"io_type": "int8", "quantization": "dynamic"},
            ValueError,
            "quantization='int8' or 'qat' with",
        ),
        (
            {"io_type": "int8", "quantization": "int8", "input_type": "uint8"},
            ValueError,
            "Received both",
        ),
        (
            {
                "io_type": "int8",
                "quantization": "int8",
                "float_layers": ["conv"],
            },
            ExportError,
            r"'input' is read by \['CONV_2D'\] in float",
        ),
    ],
)
def test_what_is_refused(options, error, message, tmp_path):
    cascade, _, _ = image_cascade()
    with pytest.raises(error, match=message):
        cascade.export(tmp_path / "bundle", verbose=False, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: 1.25 * x - 0.125, r"Received \[-0.125, 1.125\] as 'input'"),
        (lambda x: x * 0.999, "values up to .* of a step beside"),
    ],
)
def test_images_that_are_no_bytes(change, message, tmp_path):
    cascade, x, y = image_cascade()
    x = change(x)
    cascade.calibrate((x, y), kc.MaxDelegationRate(0.5))
    with pytest.raises(ExportError, match=message):
        cascade.export(tmp_path / "bundle", input_type="uint8", verbose=False)


def test_a_scale_that_is_not_the_files(exported, tmp_path):
    shutil.copytree(exported[0] / "int8_io", tmp_path / "bundle")
    manifest = json.loads((tmp_path / "bundle" / MANIFEST).read_text("utf-8"))
    manifest["student"]["input"][0]["quantization"]["zero_point"] += 1
    write_manifest(manifest, tmp_path / "bundle" / MANIFEST)
    with pytest.raises(BundleError, match=r"with the scale .* and zero point"):
        EdgeCascade.load(tmp_path / "bundle")
