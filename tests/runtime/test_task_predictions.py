"""`EdgeCascade` with bundles that are not of one class per example."""

import asyncio
import shutil

import numpy as np
import pytest
from scipy import special

import keras_cascade as kc
from keras_cascade.errors import QueueError, TeacherError
from keras_cascade.runtime import (
    AsyncEdgeCascade,
    EdgeCascade,
    SavedModelTeacher,
)
from keras_cascade.runtime.queueing.teacher_log import TeacherLog
from keras_cascade.runtime.queueing.teacher_queue import TeacherQueue
from keras_cascade.utils.answer_form import AnswerForm
from tests.helpers.scripted_teacher import ScriptedTeacher, unavailable
from tests.helpers.task_cascades import TASKS, pixel_cascade, pixel_data

NAMES = ["hamming", "tolerance", "pixels"]
ANSWERS = {
    "hamming": special.expit,
    "tolerance": lambda values: values,
    "pixels": lambda logits: special.softmax(logits, axis=-1),
}
LABELS = {
    "hamming": lambda p: p >= 0.5,
    "tolerance": lambda values: values,
    "pixels": lambda p: p.argmax(axis=-1),
}
NOBODY = {"hamming": False, "tolerance": np.nan, "pixels": -1}


def answers_of(prediction):
    if prediction.values is None:
        return prediction.probabilities
    assert prediction.probabilities is None
    return prediction.values


@pytest.fixture(params=NAMES)
def case(request, task_bundle):
    """Name, Keras cascade, bundle, inputs, and the live teacher's logits."""
    name = request.param
    cascade, bundle, _ = task_bundle(name)
    x, _ = TASKS[name][1](30, 41)
    return name, cascade, bundle, x, cascade.teacher.predict(x, verbose=0)


def by_row(x, logits):
    """A teacher that looks its answers up."""
    table = {row.tobytes(): one for row, one in zip(x, logits, strict=True)}

    def answer(inputs):
        return np.stack([table[row.tobytes()] for row in inputs["input"]])

    return answer


def test_answers_are_those_of_keras(case):
    name, cascade, bundle, x, logits = case
    expected = cascade.predict(x, verbose=0)
    keras_answers = expected[cascade.task.answer_name]
    with EdgeCascade.load(bundle.path, teacher="local") as edge:
        found = edge.predict(x)
        alone = edge.predict_alone(x)
    np.testing.assert_allclose(answers_of(found), keras_answers, atol=1e-5)
    assert ((found.source == "cloud") == expected["delegated"]).all()
    cloud = found.source == "cloud"
    assert 0 < cloud.mean() < 1
    np.testing.assert_allclose(
        answers_of(found)[cloud], ANSWERS[name](logits)[cloud], atol=1e-5
    )
    expected_labels = LABELS[name](answers_of(found))
    np.testing.assert_array_equal(found.labels, expected_labels)
    assert found.answered.all()
    assert set(alone.source) == {"edge"}
    assert len(found) == len(x)


def test_names(case):
    name, _, bundle, x, _ = case
    with EdgeCascade.load(bundle.path) as edge:
        found = edge.predict_alone(x[:3])
    classes = bundle.classes
    for row, names in zip(found.labels, found.names, strict=True):
        if name == "hamming":
            assert names == np.array(classes)[row].tolist()
        elif name == "tolerance":
            assert names == dict(zip(classes, row.tolist(), strict=True))
        else:
            assert names[1, 2] == classes[row[1, 2]]
            assert names.shape == row.shape


def test_failure_policies(case):
    name, cascade, bundle, x, _ = case
    teacher = ScriptedTeacher(TeacherError("gone"))
    delegated = cascade.predict(x, verbose=0)["delegated"]
    options = {"retries": 0, "failures_to_open": 99}
    edge = EdgeCascade(bundle, teacher, "answer", **options)
    answered = edge.predict(x)
    assert ((answered.source == "edge_fallback") == delegated).all()
    assert answered.answered.all()
    np.testing.assert_array_equal(answered.labels, edge.predict_alone(x).labels)
    abstained = EdgeCascade(bundle, teacher, "abstain", **options).predict(x)
    assert (abstained.answered == ~delegated).all()
    np.testing.assert_array_equal(
        abstained.labels[delegated],
        np.full_like(abstained.labels[delegated], NOBODY[name]),
    )
    np.testing.assert_array_equal(
        abstained.labels[~delegated], answered.labels[~delegated]
    )
    assert [n is None for n in abstained.names] == delegated.tolist()
    with pytest.raises(TeacherError, match="gone"):
        EdgeCascade(bundle, teacher, "raise", **options).predict(x)


def test_queued_rows_are_answered_later(case, tmp_path):
    name, cascade, bundle, x, logits = case
    teacher = ScriptedTeacher(unavailable(), by_row(x, logits))
    delegated = cascade.predict(x, verbose=0)["delegated"]
    with EdgeCascade(
        bundle, teacher, "queue", queue=tmp_path / "queue", retries=0
    ) as edge:
        now = edge.predict(x)
        assert ((now.source == "queued") == delegated).all()
        assert (now.answered == ~delegated).all()
        edge.send_queued()
        with edge.queued_answers() as late:
            assert late.ids == [one for one in now.ids if one is not None]
            expected = ANSWERS[name](logits[delegated])
            np.testing.assert_allclose(answers_of(late), expected, atol=1e-6)
            np.testing.assert_array_equal(
                late.labels, LABELS[name](answers_of(late))
            )
            assert late.answered.all()


def test_refused_rows_have_the_students_answer_and_no_label(case, tmp_path):
    name, _, bundle, x, _ = case
    refused = TeacherError("bad row", about_input=True)
    refused.identified = True
    teacher = ScriptedTeacher(unavailable(), refused)
    with EdgeCascade(
        bundle, teacher, "queue", queue=tmp_path / "queue", retries=0
    ) as edge:
        now = edge.predict(x)
        for _ in range(6):
            edge.send_queued()
        with edge.queued_answers() as late:
            queued = now.source == "queued"
            assert (late.source == "refused").all()
            assert len(late) == queued.sum()
            assert not late.answered.any()
            np.testing.assert_array_equal(
                answers_of(late), answers_of(now)[queued]
            )
            np.testing.assert_array_equal(
                late.labels, np.full_like(late.labels, NOBODY[name])
            )


def test_a_queue_of_another_task_is_refused(task_bundle, tmp_path):
    bundle, file = task_bundle("hamming")[1], tmp_path / "queue"
    with EdgeCascade.load(bundle.path, queue=file):
        pass
    with EdgeCascade.load(bundle.path, queue=file):
        pass
    same = {"inputs": bundle.inputs, "classes": bundle.classes}
    for form in (None, AnswerForm((4,), "softmax", False)):
        with pytest.raises(QueueError, match="other inputs"):
            TeacherQueue(file, **same, form=form)


def test_an_answer_of_another_shape_is_no_answer(case):
    _, _, bundle, x, logits = case
    teacher = ScriptedTeacher(lambda inputs: logits[: len(inputs["input"]), 1:])
    found = EdgeCascade(bundle, teacher, retries=0).predict(x)
    assert "Expected logits of shape" in found.teacher_error
    assert (found.source != "cloud").all()


def test_free_sizes_of_teacher_and_student_must_agree(tmp_path):
    cascade = pixel_cascade(free=True)
    cascade.compile(optimizer="adam")
    cascade.calibrate(pixel_data(100, 2), kc.MaxDelegationRate(0.4))
    bundle = cascade.export(tmp_path / "bundle")
    teacher = ScriptedTeacher(
        lambda inputs: np.zeros((len(inputs["input"]), 2, 2, 3))
    )
    x, _ = pixel_data(20, 3)
    found = EdgeCascade(bundle, teacher, retries=0).predict(x)
    assert "Expected an answer of the sizes (4, 4, 3)" in found.teacher_error

    async def predict():
        async with AsyncEdgeCascade(
            EdgeCascade(bundle, teacher, retries=0)
        ) as edge:
            return await edge.predict(x)

    assert "(4, 4, 3)" in asyncio.run(predict()).teacher_error


def test_the_log_keeps_the_teachers_answers(case, tmp_path):
    _, cascade, bundle, x, logits = case
    delegated = cascade.predict(x, verbose=0)["delegated"]
    with EdgeCascade.load(
        bundle.path, teacher="local", log=tmp_path / "log"
    ) as edge:
        edge.predict(x)
    log = TeacherLog(tmp_path / "log")
    inputs, kept = log.read()
    np.testing.assert_array_equal(inputs["input"], x[delegated])
    np.testing.assert_allclose(kept, logits[delegated], rtol=1e-5, atol=1e-5)


def test_another_operating_point(task_bundle, tmp_path):
    cascade, _, data = task_bundle("hamming")
    bundle = cascade.export(
        tmp_path / "points",
        calibration_data=data,
        operating_points={"frugal": kc.MaxDelegationRate(0.1)},
    )
    x, _ = TASKS["hamming"][1](200, 42)
    scores = cascade.predict(x, verbose=0)["score"]
    threshold = np.float32(bundle.operating_point("frugal")["threshold"])
    with EdgeCascade.load(
        bundle.path, teacher="local", operating_point="frugal"
    ) as edge:
        found = edge.predict(x)
    assert ((found.source == "cloud") == (scores < threshold)).all()
    assert found.delegation_rate < 0.25


def test_the_compiled_runtime(case):
    _, _, bundle, x, _ = case
    with EdgeCascade.load(bundle.path) as edge:
        expected = edge.predict_alone(x[:5])
    with EdgeCascade.load(bundle.path, runtime="compiled") as edge:
        found = edge.predict_alone(x[:5])
    np.testing.assert_allclose(
        answers_of(found), answers_of(expected), atol=1e-5
    )


def test_the_largest_logits_alone_are_refused(task_bundle):
    bundle = task_bundle("hamming")[1]
    url = "http://127.0.0.1:1/v1/models/teacher"
    with pytest.raises(ValueError, match="one class per example for `teacher_"):
        EdgeCascade.load(bundle.path, teacher=url, teacher_top_k=2)


def test_another_teacher_by_its_files_is_told_by_its_probes(
    task_bundle, tmp_path
):
    cascade, bundle, _ = task_bundle("pixels")
    probes = bundle.manifest["teacher"]["probes"]
    assert np.shape(probes["logits"]) == (probes["rows"], 4, 4, 3)
    shutil.copytree(bundle.teacher_folder, tmp_path / "1")
    with EdgeCascade.load(bundle.path, teacher=tmp_path / "1") as edge:
        assert isinstance(edge.teacher, SavedModelTeacher)
    weights = cascade.teacher.get_weights()
    try:
        cascade.teacher.set_weights([1.2 * one for one in weights])
        other = cascade.export(
            tmp_path / "other", calibration_data=TASKS["pixels"][1](50, 7)
        )
    finally:
        cascade.teacher.set_weights(weights)
    with pytest.raises(TeacherError, match="logits of the manifest's probe"):
        EdgeCascade.load(bundle.path, teacher=other.teacher_folder)


def test_drift_is_watched_by_the_scores(task_bundle):
    _, bundle, _ = task_bundle("tolerance")
    x, _ = TASKS["tolerance"][1](300, 43)
    monitor = kc.DriftMonitor(bundle)
    with EdgeCascade.load(bundle.path) as edge:
        same = monitor.update(edge.predict_alone(x))
        shifted = monitor.update(edge.predict_alone(6 * x + 4))
    assert same.guarantee_holds
    assert not shifted.guarantee_holds
