"""`keras-cascade serve` states its teacher's identity: as the device reads it.

A teacher whose identity is required checks every answer of the real server.
"""

import contextlib

import numpy as np
import pytest

from keras_cascade.bundle import Bundle
from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.teacher_at import open_teacher


def urls(server):
    v2 = server.url.replace("/v1/", "/v2/")
    return {
        "v1": (server.url, {}),
        "v2": (v2, {"binary": False}),
        "v2_binary": (v2, {"binary": True}),
        "grpc": (server.grpc_url, {}),
        "detected": (server.url.partition("/v1/")[0], {}),
    }


@pytest.mark.parametrize("form", ["v1", "v2", "v2_binary", "grpc", "detected"])
def test_every_answer_states_the_bundles_identity(
    server, bundle_path, expected, blobs, form
):
    url, options = urls(server)[form]
    bundle = Bundle.load(bundle_path)
    teacher = open_teacher(
        url, bundle, 30.0, teacher_identity="required", **options
    )
    x = {"input": blobs(5)[0]}
    wrong = {"input": np.zeros((2, 5), "float32")}
    with contextlib.closing(teacher):
        teacher.check()
        np.testing.assert_allclose(teacher.logits(x), expected(x), atol=1e-5)
        with pytest.raises(TeacherError) as caught:
            teacher.logits(wrong)
    assert caught.value.about_input
    assert caught.value.identified
