"""The three ways into a collector, behind one face: a test says what is sent and what is answered, once for all."""

from __future__ import annotations

import gzip
import json
from base64 import b64decode
from typing import Any, ClassVar, NamedTuple

import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.collector.running import JSON, PROTOBUF, Running

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"

_NAMES = {
    grpc.StatusCode.OK: "ok", 200: "ok",
    grpc.StatusCode.INVALID_ARGUMENT: "invalid", 400: "invalid",
    grpc.StatusCode.UNAUTHENTICATED: "unauthenticated", 401: "unauthenticated",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "too large", 413: "too large",
    grpc.StatusCode.UNAVAILABLE: "unavailable", 503: "unavailable",
    grpc.StatusCode.CANCELLED: "cancelled",
    grpc.StatusCode.UNIMPLEMENTED: "unimplemented", 404: "unimplemented",
}  # fmt: skip


class Said(NamedTuple):
    """An answer in words that all wires share. `body` is what came, `hints` what was said of another try."""

    answer: str
    rejected: int = 0
    message: str = ""
    body: bytes = b""
    hints: tuple[tuple[str, bytes], ...] = ()


class Wire:
    """Sends to a collector. `plain` is the answer to a full success, `garbage` a body that is none."""

    name: ClassVar[str]
    plain: ClassVar[bytes] = b""
    garbage: ClassVar[bytes] = b"\xff\xfe\xfd"
    empty: ClassVar[bytes] = b""

    def __init__(self, collector: Running) -> None:
        self.collector = collector

    def export(self, request: ExportTraceServiceRequest, **options: Any) -> Said:
        return self.send(self.written(request), **options)

    def written(self, request: ExportTraceServiceRequest) -> bytes:
        return request.SerializeToString()

    def send(self, body: bytes, *, compressed: bool = False, key: str | None = None, signal: str = "traces") -> Said:
        raise NotImplementedError


class Grpc(Wire):
    name = "grpc"

    def send(self, body: bytes, *, compressed: bool = False, key: str | None = None, signal: str = "traces") -> Said:
        method = {"traces": EXPORT, "logs": LOGS, "metrics": METRICS}[signal]
        compression = grpc.Compression.Gzip if compressed else grpc.Compression.NoCompression
        metadata = () if key is None else (("authorization", f"Bearer {key}"),)
        with grpc.insecure_channel(self.collector.grpc_address) as channel:
            try:
                answer = channel.unary_unary(method, None, None)(
                    body, timeout=20, compression=compression, metadata=metadata
                )
            except grpc.RpcError as error:
                trailers = tuple(
                    (item.key, item.value) for item in error.trailing_metadata() or () if "-bin" in item.key
                )
                return Said(_NAMES[error.code()], 0, error.details() or "", b"", trailers)
        return _read(bytes(answer))


class HttpProtobuf(Wire):
    name = "http/protobuf"
    content_type = PROTOBUF

    def send(self, body: bytes, *, compressed: bool = False, key: str | None = None, signal: str = "traces") -> Said:
        headers = {"authorization": f"Bearer {key}"} if key is not None else {}
        if compressed:
            body, headers = gzip.compress(body), {**headers, "content-encoding": "gzip"}
        answer = self.collector.http.post(body, self.content_type, f"/v1/{signal}", **headers)
        assert answer.headers["content-type"] == self.content_type
        hints = tuple((name, value.encode()) for name, value in answer.headers.items() if name == "retry-after")
        if answer.status == 200:
            return self.success(answer.body)
        return Said(_NAMES[answer.status], 0, self.error(answer.body), answer.body, hints)

    def success(self, body: bytes) -> Said:
        return _read(body)

    def error(self, body: bytes) -> str:
        return str(Status.FromString(body).message)


class HttpJson(HttpProtobuf):
    name = "http/json"
    content_type = JSON
    plain = b"{}"
    garbage = b"{not json"
    empty = b"{}"

    def written(self, request: ExportTraceServiceRequest) -> bytes:
        return json.dumps(otlp_json(request)).encode()

    def success(self, body: bytes) -> Said:
        partial = json.loads(body).get("partialSuccess", {})
        return Said("ok", int(partial.get("rejectedSpans", 0)), partial.get("errorMessage", ""), body)

    def error(self, body: bytes) -> str:
        return str(json.loads(body)["message"])


WIRES: tuple[type[Wire], ...] = (Grpc, HttpProtobuf, HttpJson)


def otlp_json(request: ExportTraceServiceRequest) -> Any:
    """Write a request as OTLP/JSON: protobuf's JSON with hex ids and integers for enums."""
    return _with_hex_ids(MessageToDict(request, use_integers_for_enums=True))


def _with_hex_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_hex_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: b64decode(item).hex() if name in ("traceId", "spanId", "parentSpanId") else _with_hex_ids(item)
        for name, item in value.items()
    }


def _read(body: bytes) -> Said:
    response = ExportTraceServiceResponse.FromString(body)
    return Said("ok", response.partial_success.rejected_spans, response.partial_success.error_message, body)
