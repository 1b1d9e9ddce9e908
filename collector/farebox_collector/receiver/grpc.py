"""OTLP over gRPC on grpc.aio: the three export services and grpc.health.v1.

Messages stay bytes. The key is looked at before a message is read, and a message is read only when there is a place
for it: the handlers ask for it themselves, and what is not asked for stays with the sender.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NoReturn, TypeAlias

import grpc
import grpc.aio

from farebox_collector.answers_pb2 import HealthRequest, HealthResponse
from farebox_collector.config import CollectorConfig, Tls
from farebox_collector.errors import InvalidSetting, Malformed, Refused, Unavailable
from farebox_collector.intake import Intake
from farebox_collector.logs import where
from farebox_collector.originals import KeepOriginal, Original
from farebox_collector.receiver.answers import receipt_body, retry_trailers
from farebox_collector.receiver.auth import Senders, presented_key
from farebox_collector.receiver.binding import listening_socket
from farebox_collector.receiver.health import Health
from farebox_collector.receiver.limits import Budget
from farebox_collector.receiver.places import Places
from farebox_collector.spans import Sender
from farebox_collector.telemetry import Signal, Telemetry

logger = logging.getLogger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_EXPORTS: Final[dict[str, Signal]] = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
}
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_SERVING: Final = 1
_NOT_SERVING: Final = 2
WATCH_INTERVAL_S: Final = 1.0
REFUSING_S: Final = 0.5
"""Of the grace at the end: how long calls that are not finished get to be told so."""

# grpc's own defaults refuse a ping more often than every five minutes with GOAWAY; exporters ping every 10 s or so.
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second collector on the same port has to fail, not to share
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 60_000),  # who does not answer a ping is gone and holds a connection
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_concurrent_streams", 128),
    # What a sender may send before its message is read: 64 KiB, and not more where the line is fast.
    ("grpc.http2.lookahead_bytes", 64 * 1024),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_metadata_size", 32 * 1024),
    ("grpc.server_handshake_timeout_ms", 10_000),  # as long as headers may take over HTTP
)


class GrpcReceiver(grpc.GenericRpcHandler):  # type: ignore[type-arg] # generic in the stubs alone
    """Finds the handler of each call."""

    def __init__(
        self,
        intake: Intake,
        senders: Senders,
        budget: Budget,
        *,
        places: Places,
        health: Health,
        telemetry: Telemetry,
        keep_original: KeepOriginal | None = None,
    ) -> None:
        """Everything that is needed is made by `app`."""
        self._keep_original = keep_original
        self._intake = intake
        self._senders = senders
        self._budget = budget
        self._places = places
        self._health = health
        self._telemetry = telemetry
        self._in_flight: set[asyncio.Task[Any]] = set()
        self._is_ending = False

    async def finish(self, limit_s: float) -> None:
        """Wait for the calls in flight; those that take longer get the hint, which grpc itself does not give."""
        calls = set(self._in_flight)
        if calls:
            await asyncio.wait(calls, timeout=limit_s)
        self._is_ending = True
        late = set(self._in_flight)
        for call in late:
            call.cancel()
        if late:
            await asyncio.wait(late, timeout=REFUSING_S)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Choose the handler by the method and by what is known of the key; None answers UNIMPLEMENTED."""
        method = handler_call_details.method
        signal = _EXPORTS.get(method)
        if signal is None:
            return self._health_handler(method)
        return grpc.stream_unary_rpc_method_handler(
            self._export(signal, _key_of(handler_call_details.invocation_metadata))
        )

    def _export(self, signal: Signal, key: bytes | None) -> Callable[[object, Context], Awaitable[bytes]]:
        """On the wire a unary call is a stream of one message; this one is not read before the sender is known."""

        async def take(context: Context) -> bytes:
            sender = self._senders.known_sender(key) or await self._senders.sender(key)
            return await self._take(signal, sender, await self._message(context))

        async def export(_: object, context: Context) -> bytes:
            return await self._answered(signal, context, lambda: take(context))

        return export

    async def _message(self, context: Context) -> bytes:
        async with self._places.one():
            message = await context.read()  # what iterates over messages keeps the last one for longer than its call
        if not isinstance(message, bytes):
            raise Malformed("the call carries no message")
        return message

    async def _take(self, signal: Signal, sender: Sender, message: bytes) -> bytes:
        answer = await self._taken(signal, sender, message)
        if self._keep_original is not None and message:
            self._keep_original(Original(signal, message, "application/x-protobuf"))
        return answer

    async def _taken(self, signal: Signal, sender: Sender, message: bytes) -> bytes:
        with self._budget.open() as allowance:
            allowance.take(len(message))
            if signal == "logs":
                return receipt_body(await self._intake.take_logs(message, "protobuf", sender, "grpc"), "protobuf")
            if signal != "traces":
                self._intake.drop_records(message, "protobuf", signal, "grpc")
                return b""
            return receipt_body(await self._intake.take_spans(message, "protobuf", sender, "grpc"), "protobuf")

    async def _answered(self, signal: Signal, context: Context, answer: Callable[[], Awaitable[bytes]]) -> bytes:
        started = time.perf_counter()
        call = asyncio.current_task()
        assert call is not None, "grpc runs each call in a task"
        self._in_flight.add(call)
        refused: Refused | None = None
        body = b""
        try:
            body = await answer()
        except Refused as error:
            refused = error
        except asyncio.CancelledError:
            if not self._is_ending:  # the sender has hung up
                raise
            call.uncancel()
            refused = Unavailable("the collector is stopping; send the request again")
        except Exception as error:  # noqa: BLE001 - this is the thread of control of a request
            # Nobody tries again after UNKNOWN or INTERNAL; before the commit nothing is lost by another try.
            logger.error("a request failed unexpectedly, its sender is asked to try again: %s", where(error))
            refused = Unavailable("the collector failed; send the request again")
        finally:
            self._in_flight.discard(call)
        if refused is not None:
            await self._refuse(signal, context, refused)
        self._telemetry.count_request("grpc", signal, "OK")
        self._telemetry.ack_seconds["grpc"].observe(time.perf_counter() - started)
        return body

    async def _refuse(self, signal: Signal, context: Context, refused: Refused) -> NoReturn:
        # What `abort` raises stays in a circle of grpc's own until the garbage collector comes, and with it whatever
        # the frames of the refusal hold: the message.
        refused.__traceback__ = refused.__context__ = None
        code = _CODES[refused.grpc_code]
        self._telemetry.count_request("grpc", signal, code.name)
        await context.abort(code, str(refused), retry_trailers(refused))
        raise AssertionError("abort always raises")

    def _health_handler(self, method: str) -> Handler | None:
        if method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(self._check)
        if method == "/grpc.health.v1.Health/Watch":
            return grpc.unary_stream_rpc_method_handler(self._watch)
        return None

    async def _check(self, message: bytes, context: Context) -> bytes:
        if _service_of(message) not in _HEALTH_SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, "this service is not known here")
        return self._health_answer()

    async def _watch(self, message: bytes, context: Context) -> AsyncIterator[bytes]:
        last = b""
        while True:
            answer = self._health_answer()
            if answer != last:
                yield answer
                last = answer
            await asyncio.sleep(WATCH_INTERVAL_S)

    def _health_answer(self) -> bytes:
        return HealthResponse(status=_SERVING if self._health.is_serving else _NOT_SERVING).SerializeToString()


_HEALTH_SERVICES: Final = ("", *(method.split("/")[1] for method in _EXPORTS))


def _service_of(message: bytes) -> str:
    return HealthRequest.FromString(message).service


def _key_of(metadata: Any) -> bytes | None:
    values = {name: value for name, value in metadata or () if name in ("authorization", "x-api-key")}
    return presented_key(_raw(values.get("authorization")), _raw(values.get("x-api-key")))


def _raw(value: str | bytes | None) -> bytes | None:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


class GrpcServer:
    """Listens from `start` to `stop`."""

    def __init__(self, receiver: GrpcReceiver, config: CollectorConfig) -> None:
        """Make the server on the running event loop and bind its port.

        Raises:
            InvalidSetting: the address cannot be bound.
        """
        limits = (
            ("grpc.max_receive_message_length", config.max_body_bytes),
            ("grpc.max_allowed_incoming_connections", config.max_connections),
        )
        self._receiver = receiver
        self._server = grpc.aio.server(options=(*_OPTIONS, *limits))
        self._server.add_generic_rpc_handlers((receiver,))
        try:
            self.port = self._bind(str(config.grpc_listen), config.tls)
        except RuntimeError:
            self.port = 0
        if self.port == 0:
            listening_socket(config.grpc_listen, "FAREBOX_GRPC_LISTEN").close()  # says why; grpc does not
            raise InvalidSetting("FAREBOX_GRPC_LISTEN", f"{config.grpc_listen} cannot be bound")

    def _bind(self, address: str, tls: Tls | None) -> int:
        if tls is None:
            return self._server.add_insecure_port(address)
        credentials = grpc.ssl_server_credentials(
            [(tls.key.read_bytes(), tls.cert.read_bytes())],
            root_certificates=None if tls.client_ca is None else tls.client_ca.read_bytes(),
            require_client_auth=tls.client_ca is not None,
        )
        return self._server.add_secure_port(address, credentials)

    async def start(self) -> None:
        """Accept calls."""
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Send GOAWAY, finish the calls in flight, then close; calls that take longer are asked to be sent again."""
        await asyncio.gather(self._server.stop(grace_s), self._receiver.finish(max(0.0, grace_s - REFUSING_S)))
