"""TensorFlow Serving's gRPC API: PredictionService's Predict and GetModelMetadata, ModelService's status."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2,
    predict_pb2,
    prediction_service_pb2,
)

from serving.model_server.proto_tensors import array_from_proto, proto_from_array
from serving.model_server.request_checks import RequestError, check_names, invalid, show
from serving.model_server.versions import ServedModels, ServedVersion

_METADATA_FIELD = "signature_def"


def add_services(server: grpc.Server, models: ServedModels) -> None:
    """Makes a gRPC server answer from the models; methods that are not served are UNIMPLEMENTED."""
    service = _Service(models)
    prediction = prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name
    model = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
    handlers = {
        prediction: {
            "Predict": _handle(predict_pb2.PredictRequest, service.predict),
            "GetModelMetadata": _handle(
                get_model_metadata_pb2.GetModelMetadataRequest, service.get_model_metadata
            ),
        },
        model: {
            "GetModelStatus": _handle(get_model_status_pb2.GetModelStatusRequest, service.get_model_status)
        },
    }
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(name, methods) for name, methods in handlers.items()]
    )


def _handle(request_type: type[Message], answer: Callable[[Any], Message]) -> grpc.RpcMethodHandler:
    """Parses here, not in gRPC, which calls a request that cannot be parsed an internal error."""

    def handle(body: bytes, context: grpc.ServicerContext) -> Message:
        try:
            return answer(_parse(request_type, body))
        except RequestError as error:
            context.abort(error.code, str(error))

    return grpc.unary_unary_rpc_method_handler(handle, response_serializer=lambda x: x.SerializeToString())


def _parse(request_type: type[Message], body: bytes) -> Message:
    request = request_type()
    try:
        num_read = request.MergeFromString(body)
    except DecodeError as error:
        raise invalid(f"the request is no {request_type.DESCRIPTOR.full_name}: {error}") from error
    if num_read != len(body):  # it stops without an error where a group ends that never began
        raise invalid(f"the request is no {request_type.DESCRIPTOR.full_name} from byte {num_read} on")
    return request


class _Service:
    def __init__(self, models: ServedModels):
        self._models = models

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        with self._models.use(*_read_spec(request.model_spec)) as served:
            signature = served.model.signature(request.model_spec.signature_name)
            check_names(request.inputs, signature.inputs, f"inputs of {signature.name!r}")
            inputs = {
                name: array_from_proto(name, request.inputs[name], spec)
                for name, spec in signature.inputs.items()
            }
            outputs = served.model.predict(signature, inputs, request.output_filter)
            return predict_pb2.PredictResponse(
                model_spec=make_spec(served, signature.name),
                outputs={name: proto_from_array(name, array) for name, array in outputs.items()},
            )

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if set(request.metadata_field) != {_METADATA_FIELD}:
            raise invalid(f"metadata_field: expected {_METADATA_FIELD!r}, got {show(request.metadata_field)}")
        with self._models.use(*_read_spec(request.model_spec)) as served:
            response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=make_spec(served))
            response.metadata[_METADATA_FIELD].Pack(make_metadata(served))
        return response

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        statuses = self._models.status(*_read_spec(request.model_spec))
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=statuses)


def make_spec(served: ServedVersion, signature_name: str = "") -> model_pb2.ModelSpec:
    """Which version answered."""
    spec = model_pb2.ModelSpec(name=served.name, signature_name=signature_name)
    spec.version.value = served.version
    return spec


def make_metadata(served: ServedVersion) -> get_model_metadata_pb2.SignatureDefMap:
    """The signatures of a version."""
    return get_model_metadata_pb2.SignatureDefMap(signature_def=served.model.signature_defs)


def _read_spec(spec: model_pb2.ModelSpec) -> tuple[str, int | None]:
    if not spec.name:
        raise invalid("model_spec.name: expected the name of a model, got none")
    if spec.version_label:
        raise invalid(f"model_spec.version_label: no version has a label, got {show(spec.version_label)}")
    return spec.name, spec.version.value if spec.HasField("version") else None
