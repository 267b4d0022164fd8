"""From what a user names to a teacher that answers."""

import importlib
import os
import re

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.saved_model_teacher import SavedModelTeacher
from keras_cascade.runtime.teachers.text_teacher import as_text_teacher

# What a URL looks like, and which class speaks to it. Loaded when asked for:
# a device that talks to nobody needs no HTTP.
_BY_URL = [
    (r"grpcs?://", "grpc_teacher.GrpcTeacher"),
    (r"https?://.*/v1/models/[^/]", "rest_teacher.RestTeacher"),
    (r"https?://.*/v2/models/[^/]", "v2_http_teacher.V2HttpTeacher"),
    (r"https?://[^/]+/?$", "detected_teacher.DetectedTeacher"),
]


def teacher_at(url, classes, **options):
    """The teacher at a URL, by the protocol that the URL names.

    Args:
        url: `http(s)://HOST[:PORT]/v1/models/NAME` (TensorFlow Serving's REST
            form), `http(s)://HOST[:PORT]/v2/models/NAME` (Open Inference
            Protocol v2), `grpc(s)://HOST:PORT/NAME` (the same over gRPC), or
            `http(s)://HOST[:PORT]`, which is asked what it speaks.
        classes: int, how many logits a row must have.
        **options: further arguments of `RemoteTeacher`.

    Returns:
        `RemoteTeacher`.
    """
    for pattern, name in _BY_URL:
        if re.match(pattern, url):
            module, _, kind = name.partition(".")
            loaded = importlib.import_module(
                f"keras_cascade.runtime.teachers.{module}"
            )
            return getattr(loaded, kind)(url, classes, **options)
    raise ValueError(
        "Expected a teacher's URL such as "
        "'http://127.0.0.1:8501/v1/models/teacher', "
        "'http://127.0.0.1:8501/v2/models/teacher', "
        "'grpc://127.0.0.1:8001/teacher' or 'http://127.0.0.1:8501'. "
        f"Received: '{url}'."
    )


def teacher_from(where, bundle, timeout, options):
    """What `EdgeCascade.load` takes as `teacher`, as an object.

    Args:
        where: URL, `"local"`, a path, an object or `None`.
        bundle: `keras_cascade.bundle.Bundle`.
        timeout: float, seconds for a request to a URL.
        options: dict of further arguments for a remote teacher.

    Returns:
        Object with `logits(inputs)`, or `None`.
    """
    named = isinstance(where, (str, os.PathLike))
    where = os.fspath(where) if named else where
    if named and "://" in where:
        output = (bundle.manifest.get("teacher") or {}).get("output", "logits")
        teacher = teacher_at(
            where,
            len(bundle.classes),
            **{"output": output, "timeout": timeout, **options},
        )
        return as_text_teacher(teacher, bundle)
    if options:
        raise ValueError(
            f"Expected a teacher's URL to go with {sorted(options)}. Received: "
            f"{where!r}."
        )
    if not named:
        return where
    folder = bundle.teacher_folder if where == "local" else where
    if folder is None:
        raise TeacherError(f"The bundle '{bundle.path}' holds no teacher.")
    if not os.path.isdir(folder):  # before TensorFlow is loaded for it
        raise TeacherError(
            "Expected `teacher` to be a URL that begins with 'http://', "
            "'https://', 'grpc://' or 'grpcs://', 'local', or the folder of a "
            f"SavedModel. Received: '{where}', and there is no such folder."
        )
    return as_text_teacher(SavedModelTeacher(folder), bundle)
