"""`PendingPrediction`, and the prediction of queued rows."""

import numpy as np
import pytest

from keras_cascade.errors import TeacherError
from keras_cascade.runtime import pending_prediction
from keras_cascade.runtime.operating_points import DelegationRule
from keras_cascade.runtime.pending_prediction import (
    PendingPrediction,
    late_prediction,
)
from keras_cascade.runtime.queueing.teacher_queue import QueuedRow

PROBABILITIES = np.float32([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])


@pytest.fixture
def clock(monkeypatch):
    """A list whose only value is the time of every clock."""
    now = [10.0]
    monkeypatch.setattr(pending_prediction.time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def pending(clock):
    """Three rows, of which the second is delegated, after 2 s."""
    outputs = {
        "probabilities": PROBABILITIES.copy(),
        "score": np.float32([0.8, 0.2, 0.6]),
        "delegate": np.array([False, True, False]),
    }
    inputs = {"input": np.arange(6.0).reshape(3, 2)}
    return PendingPrediction(
        inputs, outputs, DelegationRule("default", None), ["a", "b"], 8.0
    )


def test_getters_start_no_clock(pending, clock):
    pending.start_teacher_clock()
    clock[0] = 11.0
    np.testing.assert_array_equal(
        pending.delegated_inputs["input"], [[2.0, 3.0]]
    )
    scores, probabilities, operating_point = pending.student_result
    np.testing.assert_array_equal(scores, np.float32([0.2]))
    np.testing.assert_array_equal(probabilities, PROBABILITIES[1:2])
    assert operating_point == "default"
    clock[0] = 13.0
    pending.resolve(np.float32([[0.0, 1.0]]))
    clock[0] = 14.0
    # From 8 to 10 in the student, from 10 to 13 with the teacher.
    assert pending.prediction().latency == (2.0, 3.0, 6.0)


def test_without_delegated_rows_the_teacher_takes_no_time(pending):
    assert pending.prediction().latency == (2.0, 0.0, 2.0)


def test_resolve(pending):
    pending.start_teacher_clock()
    pending.resolve(np.float32([[0.0, np.log(3.0)]]))
    prediction = pending.prediction()
    np.testing.assert_allclose(
        prediction.probabilities, [[0.9, 0.1], [0.25, 0.75], [0.2, 0.8]]
    )
    assert prediction.labels.tolist() == [0, 1, 1]
    assert prediction.source.tolist() == ["edge", "cloud", "edge"]
    assert prediction.teacher_error is prediction.ids is None


@pytest.mark.parametrize(
    ("source", "label", "ids"),
    [("edge_fallback", 0, None), ("abstained", -1, None), ("queued", -1, "q")],
)
def test_fall_back(pending, source, label, ids):
    pending.start_teacher_clock()
    pending.fall_back(TeacherError("away"), source, ids and [ids])
    prediction = pending.prediction()
    np.testing.assert_array_equal(prediction.probabilities, PROBABILITIES)
    assert prediction.labels.tolist() == [0, label, 1]
    assert prediction.source.tolist() == ["edge", source, "edge"]
    assert prediction.teacher_error == "away"
    assert prediction.ids == (ids and [None, ids, None])
    assert pending.queued_ids == ([ids] if ids else [])


def test_late_prediction():
    def row(name, **answer):
        return QueuedRow(name, {}, 0.1, PROBABILITIES[0], "frugal", **answer)

    prediction = late_prediction(
        [
            row("x", logits=np.float32([0.0, np.log(3.0)])),
            row("y", error_message="too long"),
        ],
        ["a", "b"],
    )
    np.testing.assert_allclose(
        prediction.probabilities, [[0.25, 0.75], [0.9, 0.1]]
    )
    assert prediction.labels.tolist() == [1, -1]
    assert prediction.source.tolist() == ["cloud", "refused"]
    assert prediction.ids == ["x", "y"]
    assert prediction.teacher_error == "too long"
    assert prediction.operating_point == "frugal"
