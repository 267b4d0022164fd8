"""`EdgeCascade` against Keras, with and without a teacher."""

import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

from keras_cascade.bundle import BundleError
from keras_cascade.bundle.manifest import write_manifest
from keras_cascade.runtime import (
    EdgeCascade,
    SavedModelTeacher,
    StudentInterpreter,
    TeacherError,
)


class FixedTeacher:
    """Answers class 3 for every row, and records its inputs."""

    def __init__(self):
        self.asked = []

    def logits(self, inputs):
        self.asked.append(inputs["input"])
        rows = len(inputs["input"])
        return np.tile(np.array([0, 0, 0, 9.0], "float32"), (rows, 1))


class BrokenTeacher:
    def logits(self, inputs):
        raise TeacherError("gone")


@pytest.fixture
def edge(bundle_path):
    def load(**kwargs):
        return EdgeCascade.load(bundle_path, **kwargs)

    return load


def student_alone(bundle_path, x):
    file = bundle_path / "student.tflite"
    return StudentInterpreter(file).run({"input": x})


def test_delegated_rows_go_to_the_teacher_and_come_back_in_place(
    edge, blobs, bundle_path
):
    x, _ = blobs(80)
    teacher = FixedTeacher()
    found = edge(teacher=teacher).predict(x)
    alone = student_alone(bundle_path, x)
    delegated = alone["delegate"]
    assert 0 < delegated.sum() < 80
    np.testing.assert_array_equal(np.concatenate(teacher.asked), x[delegated])
    np.testing.assert_array_equal(found.source == "cloud", delegated)
    np.testing.assert_array_equal(found.source == "edge", ~delegated)
    assert (found.labels[delegated] == 3).all()
    np.testing.assert_array_equal(
        found.labels[~delegated],
        alone["probabilities"].argmax(axis=1)[~delegated],
    )
    # softmax([0, 0, 0, 9]) of class 3 = e^9 / (e^9 + 3).
    np.testing.assert_allclose(
        found.probabilities[delegated][:, 3],
        np.exp(9) / (np.exp(9) + 3),
        rtol=1e-6,
    )
    assert found.delegation_rate == pytest.approx(delegated.mean())
    kept, asked = int((~delegated).sum()), int(delegated.sum())
    assert found.source_counts == {"edge": kept, "cloud": asked}
    assert found.names[0] in ["a", "b", "c", "d"]
    assert found.teacher_error is None


def test_nothing_is_asked_when_everything_is_kept(edge, blobs, bundle_path):
    x, _ = blobs(80)
    kept = x[~student_alone(bundle_path, x)["delegate"]]
    assert (edge(teacher=BrokenTeacher()).predict(kept).source == "edge").all()


def test_latency(edge, blobs, bundle_path):
    x, _ = blobs(80)
    delegate = student_alone(bundle_path, x)["delegate"]
    for part, asked in ((x[~delegate], False), (x, True)):
        latency = edge(teacher=FixedTeacher()).predict(part).latency
        assert 0 < latency.student < latency.total
        assert (latency.teacher > 0) == asked
        assert latency.student + latency.teacher <= latency.total


def test_the_callers_array_stays_as_it_is(edge, blobs):
    x, _ = blobs(80)
    before = x.copy()
    cascade = edge(teacher=FixedTeacher())
    first = cascade.predict(x)
    copies = first.labels.copy(), first.probabilities.copy()
    cascade.predict(x[::-1].copy())
    np.testing.assert_array_equal(x, before)
    # Nor does a later call write into an earlier answer.
    np.testing.assert_array_equal(first.labels, copies[0])
    np.testing.assert_array_equal(first.probabilities, copies[1])


def test_one_example(edge, blobs):
    x, _ = blobs(4)
    cascade = edge(teacher="local")
    one, batch = cascade.predict(x[0]), cascade.predict(x)
    assert len(one) == 1
    np.testing.assert_allclose(
        one.probabilities[0], batch.probabilities[0], atol=1e-6
    )


def test_the_students_answer_alone(edge, blobs, bundle_path):
    x, _ = blobs(20)
    found = edge(teacher=BrokenTeacher()).predict_alone(x)
    np.testing.assert_array_equal(
        found.probabilities, student_alone(bundle_path, x)["probabilities"]
    )
    assert set(found.source) == {"edge"}


@pytest.mark.parametrize("teacher", [None, BrokenTeacher()])
def test_without_a_teacher_the_policy_decides(
    edge, blobs, teacher, bundle_path
):
    x, _ = blobs(80)
    alone = student_alone(bundle_path, x)
    delegated = alone["delegate"]
    answered = edge(teacher=teacher).predict(x)
    assert set(answered.source[delegated]) == {"edge_fallback"}
    np.testing.assert_array_equal(
        answered.labels, alone["probabilities"].argmax(axis=1)
    )
    assert answered.teacher_error
    abstained = edge(teacher=teacher, on_failure="abstain").predict(x)
    assert set(abstained.source[delegated]) == {"abstained"}
    assert (abstained.labels[delegated] == -1).all()
    assert (abstained.labels[~delegated] >= 0).all()
    assert abstained.names[int(np.flatnonzero(delegated)[0])] is None
    with pytest.raises(TeacherError):
        edge(teacher=teacher, on_failure="raise").predict(x)


@pytest.mark.parametrize(
    "answer",
    [
        lambda rows: np.full((rows, 4), np.nan),
        lambda rows: np.zeros((rows, 1)),
        lambda rows: np.zeros((rows + 1, 4)),
        lambda rows: [["x"] * 4] * rows,
        lambda rows: None,
    ],
)
def test_an_answer_that_fails_validation_is_no_answer(edge, blobs, answer):
    class Liar:
        def logits(self, inputs):
            return answer(len(inputs["input"]))

    found = edge(teacher=Liar()).predict(blobs(80)[0])
    assert set(found.source) == {"edge", "edge_fallback"}
    assert np.isfinite(found.probabilities).all()
    assert found.teacher_error


def test_a_path_of_a_saved_model(edge, blobs, bundle_path):
    found = edge(teacher=bundle_path / "teacher" / "1").predict(blobs(80)[0])
    assert set(found.source) == {"edge", "cloud"}


def test_bad_arguments(edge, blobs, tmp_path):
    with pytest.raises(ValueError, match="`on_failure` out of"):
        edge(on_failure="shrug")
    with pytest.raises(ValueError, match="Expected input 'input'"):
        edge().predict(np.ones((2, 5), "float32"))
    with pytest.raises(TeacherError, match="SavedModel with the signature"):
        edge(teacher=str(tmp_path))


def test_a_damaged_bundle_is_not_loaded(bundle_path, tmp_path):
    shutil.copytree(bundle_path, tmp_path / "copy")
    file = tmp_path / "copy" / "student.tflite"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="was altered"):
        EdgeCascade.load(tmp_path / "copy")


def test_threads_share_one_cascade(edge, blobs):
    x, _ = blobs(64)
    cascade = edge(teacher=FixedTeacher())
    expected = cascade.predict(x).probabilities
    found = [None] * 8

    def work(slot):
        found[slot] = [cascade.predict(x).probabilities for _ in range(20)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answers in found:
        for answer in answers:
            np.testing.assert_array_equal(answer, expected)


def test_a_local_teacher(bundle_path, blobs):
    teacher = SavedModelTeacher(bundle_path / "teacher" / "1")
    assert teacher.logits({"input": blobs(5)[0]}).shape == (5, 4)


def test_the_runtime_loads_neither_tensorflow_nor_keras(bundle_path):
    code = (
        "import sys, numpy as np\n"
        "from keras_cascade.runtime import EdgeCascade\n"
        f"edge = EdgeCascade.load({str(bundle_path)!r})\n"
        "edge.predict(np.ones((3, 6), 'float32'))\n"
        "print([m for m in ('keras', 'tensorflow') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert found.stdout.strip() == "[]"


def rewritten(bundle_path, folder, student=None, edit=lambda manifest: None):
    """Copies a bundle with another student or manifest, hashes included."""
    copied = folder / "rewritten"
    shutil.copytree(bundle_path, copied)
    manifest = json.loads((copied / "manifest.json").read_text())
    if student is not None:
        (copied / "student.tflite").write_bytes(student)
        manifest["student"]["sha256"] = hashlib.sha256(student).hexdigest()
    edit(manifest)
    write_manifest(manifest, copied / "manifest.json")
    return copied


@pytest.mark.parametrize(
    "shape", [[None, 7], [None, 6, 1], [None, None], [None]]
)
def test_a_manifest_with_rows_that_the_student_does_not_take(
    bundle_path, tmp_path, shape
):
    copied = rewritten(
        bundle_path, tmp_path, edit=lambda m: m["input"][0].update(shape=shape)
    )
    with pytest.raises(BundleError, match="does not fit its manifest"):
        EdgeCascade.load(copied)


def test_a_student_that_is_no_model(bundle_path, tmp_path):
    copied = rewritten(bundle_path, tmp_path, student=b"TFL3" * 100)
    with pytest.raises(BundleError, match="LiteRT cannot run"):
        EdgeCascade.load(copied)


def test_a_student_that_fails_on_its_first_row(bundle_path, blobs, monkeypatch):
    """A file whose operators do not fit their tensors fails like this."""
    edge = EdgeCascade.load(bundle_path)

    def fail(**_):
        raise RuntimeError("AllocateTensors() called on inconsistent model.")

    monkeypatch.setattr(edge._student, "_runner", lambda: fail)
    with pytest.raises(BundleError, match=r"LiteRT cannot run.*inconsistent"):
        edge.predict(blobs(3)[0])


def test_closing_lets_go_of_every_threads_interpreter(bundle_path, blobs):
    x, _ = blobs(3)
    edge, runners = EdgeCascade.load(bundle_path), []

    def work():
        edge.predict(x)
        runners.append(weakref.ref(edge._student._runner()))
        ran.wait()
        done.wait()

    ran, done = threading.Barrier(3), threading.Barrier(3)
    threads = [threading.Thread(target=work) for _ in range(2)]
    for one in threads:
        one.start()
    edge.predict(x)
    runners.append(weakref.ref(edge._student._runner()))
    ran.wait()
    edge.close()
    gc.collect()
    assert [runner() for runner in runners] == [None] * 3
    done.wait()  # the threads lived all the while
    for one in threads:
        one.join()
