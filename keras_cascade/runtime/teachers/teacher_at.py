"""Teachers by their location: a URL, a SavedModel's folder or an object."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from keras_cascade.bundle import Bundle
from keras_cascade.bundle.bundle import hash_file
from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.local_teacher import local_teacher
from keras_cascade.runtime.teachers.saved_model_teacher import SavedModelTeacher
from keras_cascade.runtime.teachers.teacher_identity import TeacherIdentity
from keras_cascade.runtime.tokenized import teacher_with_tokenizer

if TYPE_CHECKING:
    from keras_cascade.runtime.teachers.remote_teacher import RemoteTeacher

# Patterns of URLs, and the classes for them. Imported on first use: a device
# without a remote teacher needs no HTTP, and HTTP needs no gRPC.
_BY_URL = [
    (r"grpcs?://", "grpc_teacher.GrpcTeacher"),
    (r"https?://.*/v1/models/[^/]", "rest_teacher.RestTeacher"),
    (r"https?://.*/v2/models/[^/]", "v2_http_teacher.V2HttpTeacher"),
    (r"https?://[^/]+/?$", "detected_teacher.DetectedTeacher"),
]


def teacher_at(
    url: str,
    classes: int | tuple[int | None, ...],
    output: str | None = None,
    timeout: float | None = None,
    max_rows: int | None = None,
    *,
    token: str | None = None,
    ca_file: str | os.PathLike | None = None,
    max_request_bytes: int | None = None,
    max_response_bytes: int | None = None,
    binary: bool | None = None,
    client_cert: str | os.PathLike | None = None,
    client_key: str | os.PathLike | None = None,
    identity: TeacherIdentity | None = None,
    top_k: int | None = None,
) -> RemoteTeacher:
    """Creates the teacher at a URL, by the protocol that the URL names.

    Args:
        url: `http(s)://HOST[:PORT]/v1/models/NAME` (TensorFlow Serving's REST
            form), `http(s)://HOST[:PORT]/v2/models/NAME` (Open Inference
            Protocol v2), `grpc(s)://HOST:PORT/NAME` (the same over gRPC), or
            `http(s)://HOST[:PORT]`, whose protocol is detected.
        classes: as in `RemoteTeacher`.
        output: as in `RemoteTeacher`. This and all further arguments default
            to `None`: the default of the teacher's class.
        timeout: as in `RemoteTeacher`.
        max_rows: as in `RemoteTeacher`.
        token: as in `RemoteTeacher`.
        ca_file: as in `RemoteTeacher`.
        max_request_bytes: as in `RemoteTeacher`.
        max_response_bytes: as in `RemoteTeacher`.
        binary: as in `V2HttpTeacher`; for a `/v2/` URL alone.
        client_cert: as in `RemoteTeacher`.
        client_key: as in `RemoteTeacher`.
        identity: as in `RemoteTeacher`.
        top_k: as in `RemoteTeacher`.

    Returns:
        `RemoteTeacher`.
    """
    options = _not_none(
        output=output,
        timeout=timeout,
        max_rows=max_rows,
        token=token,
        ca_file=ca_file,
        max_request_bytes=max_request_bytes,
        max_response_bytes=max_response_bytes,
        binary=binary,
        client_cert=client_cert,
        client_key=client_key,
        identity=identity,
        top_k=top_k,
    )
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


def open_teacher(
    location,
    bundle: Bundle,
    timeout: float | None = None,
    *,
    output: str | None = None,
    max_rows: int | None = None,
    token: str | None = None,
    ca_file: str | os.PathLike | None = None,
    max_request_bytes: int | None = None,
    max_response_bytes: int | None = None,
    binary: bool | None = None,
    client_cert: str | os.PathLike | None = None,
    client_key: str | os.PathLike | None = None,
    teacher_identity: str = "probe",
    top_k: int | None = None,
):
    """Opens a bundle's teacher, behind its tokenizer where it has one.

    Args:
        location: URL, `"local"`, a path, an object with `logits(inputs)` or
            `None`, as `EdgeCascade.load` takes it.
        bundle: `keras_cascade.bundle.Bundle`.
        timeout: float, seconds for a request to a URL. Defaults to `None`:
            `RemoteTeacher`'s own.
        teacher_identity: `"required"`, `"probe"` or `"off"`, as in
            `EdgeCascade.load`. Defaults to `"probe"`.

    Further arguments as in `teacher_at`; they go with a URL alone.

    Returns:
        Object with `logits(inputs)`, or `None`.
    """
    options = _not_none(
        output=output,
        max_rows=max_rows,
        token=token,
        ca_file=ca_file,
        max_request_bytes=max_request_bytes,
        max_response_bytes=max_response_bytes,
        binary=binary,
        client_cert=client_cert,
        client_key=client_key,
        top_k=top_k,
    )
    if top_k is not None and not bundle.answer_form.one_class:
        raise ValueError(
            "Expected a bundle of one class per example for `teacher_top_k`. "
            f"Received: {top_k}, of the task {bundle.manifest['task']['class']}"
            ", whose answers need every logit. Leave it out."
        )
    identity = TeacherIdentity.of_bundle(bundle, teacher_identity)
    is_text = isinstance(location, (str, os.PathLike))
    location = os.fspath(location) if is_text else location
    if is_text and "://" in location:
        manifest = (
            bundle.manifest.get("teacher")
            or bundle.manifest.get("remote_teacher")
            or {}
        )
        options.setdefault("output", manifest.get("output", "logits"))
        teacher = teacher_at(
            location,
            bundle.answer_form.sizes,
            timeout=timeout,
            identity=identity,
            **options,
        )
        return teacher_with_tokenizer(teacher, bundle)
    if options:
        raise ValueError(
            f"Expected a teacher's URL to go with {sorted(options)}. Received: "
            f"{location!r}."
        )
    if not is_text:
        return location
    if location == "local":
        if bundle.teacher_folder is None:
            raise TeacherError(bundle.lacks_teacher())
        return teacher_with_tokenizer(local_teacher(bundle), bundle)
    if not os.path.isdir(location):  # before TensorFlow is loaded for it
        raise TeacherError(
            "Expected `teacher` to be a URL that begins with 'http://', "
            "'https://', 'grpc://' or 'grpcs://', 'local', or the folder of a "
            f"SavedModel. Received: '{location}', and there is no such folder."
        )
    local = SavedModelTeacher(location)
    _check_saved_model(local, location, bundle, identity)
    return teacher_with_tokenizer(local, bundle)


def _check_saved_model(teacher, folder, bundle, identity):
    """Raises where another SavedModel is not the bundle's teacher."""
    found = {
        file.relative_to(folder).as_posix(): hash_file(file)
        for file in Path(folder).rglob("*")
        if file.is_file()
    }
    expected = (bundle.manifest.get("teacher") or {}).get("files")
    # Of the same model, written once more, the files differ.
    if found == expected or identity.matches(None, folder):
        return
    if identity.probes:
        logits = teacher.logits(identity.probe_inputs())
        identity.check_probes([logits], folder)


def _not_none(**options):
    return {k: value for k, value in options.items() if value is not None}
