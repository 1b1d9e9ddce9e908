"""Send one serialized OTLP request to the collector and say what became of it.

Comes in: the bytes of an `ExportTraceServiceRequest`. Goes out: a `Verdict`. It uses the standard library's HTTP client
on purpose: `requests` and the OTLP exporter would read proxies, `.netrc` and `OTEL_EXPORTER_OTLP_*` from the
environment, and with them other receivers' addresses, headers and certificates. It never raises.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import importlib
import ipaddress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol
from urllib.parse import urlsplit

from farebox._version import __version__
from farebox.config import DEFAULT_ENDPOINT, DEFAULT_GRPC_ENDPOINT, Settings

TRACES_PATH = "/v1/traces"
GRPC_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
RETRY_AFTER_MAX_S = 60.0

# 400, 413, 415, 422: sending the same bytes again cannot help. All else may be cured at the collector or by a setting.
POISON_STATUSES = frozenset({400, 413, 415, 422})


class Verdict(Enum):
    ACCEPTED = "accepted"
    LATER = "later"
    REFUSED_KEY = "refused_key"
    POISON = "poison"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the collector answered. `detail` is for people; `retry_after_s` None means that it named no time."""

    verdict: Verdict
    detail: str = ""
    retry_after_s: float | None = None


class Sender(Protocol):
    """What the exporter needs: bytes in, a verdict out, within `timeout_s`."""

    def send(self, payload: bytes, timeout_s: float) -> Reply: ...

    def close(self) -> None: ...


def sender_for(settings: Settings) -> Sender:
    """The sender of the protocol that the settings name; falls back on HTTP, with a log line, without grpcio."""
    if settings.protocol == "grpc":
        try:
            return GrpcSender(settings.endpoint, settings.ingest_key)
        except ImportError:
            from farebox import safety

            safety.say_once(
                "sending.grpc",
                'FAREBOX_PROTOCOL=grpc needs the extra: pip install "farebox[otlp-grpc]". Sending over HTTP instead.',
            )
            # The port that gRPC is expected at would not understand HTTP.
            if settings.endpoint == DEFAULT_GRPC_ENDPOINT:
                return HttpSender(DEFAULT_ENDPOINT, settings.ingest_key)
    return HttpSender(settings.endpoint, settings.ingest_key)


class HttpSender:
    """OTLP/HTTP with protobuf over one kept-alive connection. For one thread at a time."""

    def __init__(self, endpoint: str, ingest_key: str | None) -> None:
        parts = urlsplit(endpoint if "//" in endpoint else f"http://{endpoint}")
        self._is_tls = parts.scheme == "https"
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (443 if self._is_tls else 80)
        path = parts.path.rstrip("/")
        self._path = path if path.endswith(TRACES_PATH) else path + TRACES_PATH
        self._headers = {"Content-Type": "application/x-protobuf", "User-Agent": f"farebox/{__version__}"}
        if ingest_key:
            self._headers["Authorization"] = f"Bearer {ingest_key}"
        self._compresses = not is_loopback(self._host)
        self._connection: http.client.HTTPConnection | None = None

    def send(self, payload: bytes, timeout_s: float) -> Reply:
        body, headers = payload, dict(self._headers)
        if self._compresses:
            body = gzip.compress(payload, compresslevel=6)
            headers["Content-Encoding"] = "gzip"
        was_open = self._connection is not None
        try:
            return self._post(body, headers, timeout_s)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not was_open:
                return Reply(Verdict.LATER, f"{type(error).__name__}: {error}")
        # A kept-alive connection may have been closed by the other side in the meantime: once more on a new one.
        try:
            return self._post(body, headers, timeout_s)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Reply(Verdict.LATER, f"{type(error).__name__}: {error}")

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
            self._connection = None

    def _post(self, body: bytes, headers: dict[str, str], timeout_s: float) -> Reply:
        connection = self._connect(timeout_s)
        connection.request("POST", self._path, body, headers)
        response = connection.getresponse()
        answer = response.read(4096)
        if not response.isclosed() or response.will_close:
            self.close()
        return _http_reply(response.status, response.getheader("Retry-After"), answer)

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
            self._connection = kind(self._host, self._port, timeout=timeout_s)
        elif self._connection.sock is not None:
            self._connection.sock.settimeout(timeout_s)
        return self._connection


class GrpcSender:
    """OTLP/gRPC for those who ask for it; grpcio is imported here and nowhere else."""

    def __init__(self, endpoint: str, ingest_key: str | None) -> None:
        self._grpc: Any = importlib.import_module("grpc")
        parts = urlsplit(endpoint if "//" in endpoint else f"http://{endpoint}")
        self._target = f"{parts.hostname}:{parts.port or 4317}"
        self._is_tls = parts.scheme == "https"
        self._metadata = (("authorization", f"Bearer {ingest_key}"),) if ingest_key else ()
        self._channel: Any = None

    def send(self, payload: bytes, timeout_s: float) -> Reply:
        if self._channel is None:
            self._channel = self._open_channel()
        call = self._channel.unary_unary(GRPC_METHOD)
        try:
            call(payload, timeout=timeout_s, metadata=self._metadata)
        except self._grpc.RpcError as error:
            return self._failed(error)
        return Reply(Verdict.ACCEPTED)

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _open_channel(self) -> Any:
        # http_proxy is for the app's own traffic, as with HTTP.
        options = [("grpc.enable_http_proxy", 0)]
        if self._is_tls:
            return self._grpc.secure_channel(self._target, self._grpc.ssl_channel_credentials(), options)
        return self._grpc.insecure_channel(self._target, options)

    def _failed(self, error: Any) -> Reply:
        code = self._grpc.StatusCode
        detail = f"{error.code().name}: {error.details()}"
        if error.code() in (code.UNAUTHENTICATED, code.PERMISSION_DENIED):
            return Reply(Verdict.REFUSED_KEY, detail)
        if error.code() is code.INVALID_ARGUMENT:
            return Reply(Verdict.POISON, detail)
        return Reply(Verdict.LATER, detail)


def _http_reply(status: int, retry_after: str | None, answer: bytes) -> Reply:
    if 200 <= status < 300:
        return Reply(Verdict.ACCEPTED, _partial_success(answer))
    detail = f"HTTP {status}"
    if status in (401, 403):
        return Reply(Verdict.REFUSED_KEY, detail)
    if status in POISON_STATUSES:
        return Reply(Verdict.POISON, detail)
    return Reply(Verdict.LATER, detail, _seconds(retry_after))


def _partial_success(answer: bytes) -> str:
    """How many spans the collector rejected, in words; empty when it took all."""
    if not answer:
        return ""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        partial = ExportTraceServiceResponse.FromString(answer).partial_success
    except Exception:  # noqa: BLE001 - an answer that is no protobuf (an HTML page) is no partial success
        return ""
    return f"{partial.rejected_spans} spans rejected: {partial.error_message}" if partial.rejected_spans else ""


def _seconds(retry_after: str | None) -> float | None:
    try:
        return min(max(float(retry_after), 0.0), RETRY_AFTER_MAX_S) if retry_after else None
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
