"""HTTP routes: TensorFlow Serving's REST protocol and Open Inference v2.

KServe's `ModelServer` is not used: it answers some malformed requests with
status 500, logs a traceback for each of them, turns every tensor into a
Python list, and its gRPC listens on every address, without TLS.
"""

import dataclasses
from typing import Annotated

from fastapi import FastAPI, Path, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from keras_cascade.serving import rest_v1, rest_v2
from keras_cascade.serving.cors import with_cors
from keras_cascade.serving.http_requests import (
    RequestMiddleware,
    error_response,
    failure_response,
    read_body,
    watched_client,
)
from keras_cascade.serving.request_error import RequestError
from keras_cascade.version import __version__


def http_application(service, cors_origins=(), page=None):
    """Creates the ASGI application; `GET /openapi.json` describes it.

    Args:
        service: `TeacherService`.
        cors_origins: tuple of `checked_origins`. Defaults to `()`: browsers
            let no page of another origin read an answer.
        page: `WebPage` to serve too, or `None`. Defaults to `None`.

    Returns:
        ASGI application.
    """
    app = FastAPI(
        title="keras-cascade teacher",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        # A redirect would go to whatever the client calls `host`.
        redirect_slashes=False,
    )
    _add_predict_routes(app, service)
    _add_model_routes(app, service)
    _add_server_routes(app, service)
    app.add_exception_handler(RequestError, _handle_request_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(Exception, _handle_failure)
    served = RequestMiddleware(app, service)
    if page is not None:
        served = page.wrap(served)
    return with_cors(served, cors_origins)


def _add_predict_routes(app, service):
    model_name = _model_name(service)

    async def predict(model: model_name, request: Request):
        record = request.state.record
        body = await read_body(request, service, record)
        teacher = _find(service, model, request)

        def parse():
            inputs, as_instances = rest_v1.read_request(
                body, teacher.inputs, teacher.max_rows
            )
            return teacher.check(inputs), as_instances

        inputs, as_instances = await service.parsed(len(body), parse)
        async with watched_client(request) as gone:
            logits = await service.answer(teacher, inputs, record, gone)
        return Response(
            rest_v1.write_response(logits, as_instances),
            media_type="application/json",
        )

    async def infer(model: model_name, request: Request):
        record = request.state.record
        body = await read_body(request, service, record)
        teacher = _find(service, model, request)
        header = request.headers.get(rest_v2.JSON_LENGTH)
        length = rest_v2.json_length(header, len(body))

        def parse():
            read = rest_v2.read_request(
                body,
                length,
                teacher.inputs,
                teacher.output,
                teacher.max_rows,
            )
            return dataclasses.replace(read, inputs=teacher.check(read.inputs))

        # Tensors in binary take no time, however large.
        infer_request = await service.parsed(length, parse)
        async with watched_client(request) as gone:
            logits = await service.answer(
                teacher, infer_request.inputs, record, gone
            )
        content, json_length = rest_v2.write_response(
            logits,
            infer_request,
            service.name,
            teacher,
        )
        if json_length is None:
            return Response(content, media_type="application/json")
        return Response(
            content,
            media_type="application/octet-stream",
            headers={rest_v2.JSON_LENGTH: str(json_length)},
        )

    for versions in ("", "/versions/{version}"):
        _post(
            app,
            f"/v1/models/{{model}}{versions}:predict",
            predict,
            _PREDICT_BODY,
        )
        _post(app, f"/v2/models/{{model}}{versions}/infer", infer, _INFER_BODY)


def _add_model_routes(app, service):
    model_name = _model_name(service)

    async def v1_status(model: model_name, request: Request):
        teacher = _find(service, model, request)
        return JSONResponse(
            {
                "name": service.name,
                "ready": service.ready,
                "model_version_status": [
                    {
                        "version": teacher.version,
                        "state": "AVAILABLE",
                        "status": {"error_code": "OK", "error_message": ""},
                    }
                ],
            }
        )

    async def metadata(model: model_name, request: Request):
        content = service.metadata(_find(service, model, request))
        # Over HTTP the protocol has parameters everywhere, and newer servers
        # the properties of gRPC's message.
        content["parameters"] = content["properties"]
        return JSONResponse(content)

    async def model_ready(model: model_name, request: Request):
        _find(service, model, request)
        return JSONResponse({"name": service.name, "ready": service.ready})

    for versions in ("", "/versions/{version}"):
        v1, v2 = (f"/v{n}/models/{{model}}{versions}" for n in (1, 2))
        _get(app, v1, v1_status)
        _get(app, v2, metadata)
        _get(app, f"{v2}/ready", model_ready)


def _add_server_routes(app, service):
    async def live():
        return JSONResponse({"live": True})

    async def ready():
        if not service.ready:
            return JSONResponse({"ready": False}, 503)
        return JSONResponse({"ready": True})

    async def server_metadata():
        return JSONResponse(
            {
                "name": "keras-cascade",
                "version": __version__,
                "extensions": ["binary_tensor_data"],
            }
        )

    async def models():
        return JSONResponse({"models": [service.name]})

    async def metrics():
        return Response(
            service.metrics.text(), media_type="text/plain; version=0.0.4"
        )

    for path, function in (
        ("/", live),
        ("/v2/health/live", live),
        ("/v2/health/ready", ready),
    ):
        _get(app, path, function)
        app.add_api_route(
            path,
            function,
            methods=["HEAD"],
            response_model=None,
            include_in_schema=False,
        )
    _get(app, "/v2", server_metadata)
    _get(app, "/v1/models", models)
    _get(app, "/metrics", metrics)


def _find(service, model, request):
    return service.find(
        model, request.state.record, request.path_params.get("version")
    )


def _model_name(service):
    """Returns the type of the path's `model`.

    Any name is accepted here, so that `TeacherService.find` answers 404 in
    the same words as over gRPC; the description names the one model.
    """
    return Annotated[str, Path(json_schema_extra={"enum": [service.name]})]


def _get(app, path, function):
    app.add_api_route(
        path,
        function,
        methods=["GET"],
        response_model=None,
        include_in_schema="{version}" not in path,
    )


def _post(app, path, function, body):
    app.add_api_route(
        path,
        function,
        methods=["POST"],
        response_model=None,
        include_in_schema="{version}" not in path,
        openapi_extra={"requestBody": body},
    )


async def _handle_request_error(request, error):
    # After 408 and 413 a part of the body is still on its way.
    return error_response(error, close=error.status in (408, 413))


async def _handle_failure(request, error):
    return failure_response(request.state.record)


async def _handle_http_exception(request, error):
    return JSONResponse(
        {"error": f"{error.detail}. See GET /openapi.json for what there is."},
        error.status_code,
        error.headers,
    )


# The two request bodies, as `GET /openapi.json` describes them.

_TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string", "examples": ["FP32", "BYTES"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "data": {"type": "array", "items": {}},
        "parameters": {
            "type": "object",
            "properties": {"binary_data_size": {"type": "integer"}},
        },
    },
}
_OUTPUT = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "parameters": {
            "type": "object",
            "properties": {"binary_data": {"type": "boolean"}},
        },
    },
}
_V1 = {
    "type": "object",
    "properties": {
        "instances": {"type": "array", "items": {}},
        "inputs": {},
        "signature_name": {"type": "string"},
    },
}
_V2 = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "inputs": {"type": "array", "minItems": 1, "items": _TENSOR},
        "outputs": {"type": "array", "items": _OUTPUT},
        "parameters": {
            "type": "object",
            "properties": {"binary_data_output": {"type": "boolean"}},
        },
    },
}


def _body(schema, *media_types):
    content = {"application/json": {"schema": schema}}
    content.update({one: {"schema": {}} for one in media_types})
    return {"required": True, "content": content}


_PREDICT_BODY = _body(_V1)
_INFER_BODY = _body(_V2, "application/octet-stream")
