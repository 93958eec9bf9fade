"""TensorFlow Serving's REST API: predict, the state of a model's versions, their metadata."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse

from serving.model_server.grpc_api import make_metadata
from serving.model_server.json_tensors import parse_request, read_inputs, write_outputs
from serving.model_server.request_checks import MAX_REQUEST_BYTES, RequestError, invalid, show
from serving.model_server.versions import ServedModels

VERSION_HEADER = "X-Model-Version"  # TensorFlow Serving's JSON has no place for it
_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
}


def make_app(models: ServedModels, executor: Executor) -> Starlette:
    """The ASGI application.

    Args:
      models: what answers.
      executor: runs what takes time, so that the event loop goes on.
    """
    api = _Api(models, executor)
    model, version = "/v1/models/{name}", "/v1/models/{name}/versions/{version}"
    routes = []
    for path in (version, model):
        routes += [
            Route(f"{path}:{{method}}", api.predict, methods=["POST"]),
            # Else the status of a model whose name has a colon.
            Route(f"{path}:{{method}}", _refuse_get, methods=["GET"]),
            Route(f"{path}/metadata", api.metadata, methods=["GET"]),
            Route(path, api.status, methods=["GET"]),
        ]
    handlers: dict[Any, Any] = {
        RequestError: lambda _, error: _refuse(_HTTP_STATUS.get(error.code, 500), str(error)),
        HTTPException: _refuse_http,
        ClientDisconnect: lambda *_: Response(status_code=499),  # nobody reads it
        Exception: lambda _, error: _refuse(500, f"{type(error).__name__}: {error}"),
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False  # a redirect has no JSON to say why
    return app


class _Api:
    def __init__(self, models: ServedModels, executor: Executor):
        self._models = models
        self._executor = executor

    async def predict(self, request: Request) -> Response:
        method = request.path_params["method"]
        if method != "predict":
            raise RequestError(grpc.StatusCode.UNIMPLEMENTED, f"method {show(method)}; expected 'predict'")
        name, version = _read_path(request)
        body = await _read_body(request)
        return await self._run(lambda: self._predict(name, version, body))

    def _predict(self, name: str, version: int | None, body: bytes) -> Response:
        content = parse_request(body)
        with self._models.use(name, version) as served:
            signature = served.model.signature(content.signature_name)
            outputs = served.model.predict(signature, read_inputs(content, signature))
            return _respond(
                write_outputs(outputs, content.is_row_format), headers={VERSION_HEADER: str(served.version)}
            )

    async def metadata(self, request: Request) -> Response:
        name, version = _read_path(request)
        return await self._run(lambda: self._metadata(name, version))

    def _metadata(self, name: str, version: int | None) -> Response:
        with self._models.use(name, version) as served:
            content = {
                "model_spec": {"name": name, "signature_name": "", "version": str(served.version)},
                "metadata": {"signature_def": _as_json(make_metadata(served))},
            }
        return _respond(json.dumps(content).encode())

    async def status(self, request: Request) -> Response:
        name, version = _read_path(request)
        response = GetModelStatusResponse(model_version_status=self._models.status(name, version))
        return _respond(json.dumps(_as_json(response)).encode())

    async def _run(self, work: Callable[[], Response]) -> Response:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


async def _refuse_get(_: Request) -> Response:
    raise HTTPException(405, headers={"Allow": "POST"})


def _refuse_http(request: Request, error: HTTPException) -> Response:
    message = f"{error.detail}: {request.method} {show(request.url.path)}"
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))  # of a set
        message += f"; expected {headers['Allow']}"
    return _refuse(error.status_code, message, headers)


def _read_path(request: Request) -> tuple[str, int | None]:
    version = request.path_params.get("version")
    if version is None:
        return request.path_params["name"], None
    if not (version.isascii() and version.isdigit() and len(version) < 20):
        raise invalid(f"version: expected a whole number, got {show(version)}")
    return request.path_params["name"], int(version)


async def _read_body(request: Request) -> bytes:
    """The body, as long as it is no longer than a request may be."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_REQUEST_BYTES:
            raise HTTPException(413, f"a body of more than {MAX_REQUEST_BYTES:,} bytes")
        parts.append(part)
    return b"".join(parts)


def _as_json(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, including_default_value_fields=True
    )


def _respond(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")


def _refuse(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return _respond(json.dumps({"error": message}).encode(), status, headers)
