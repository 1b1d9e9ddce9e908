"""The private pipeline: spans of our own tracer provider to the collector, past everything of the app.

Comes in: ended spans. Goes out: OTLP requests, in batches, from one background thread; always sampled, and through the
app's own provider only if the settings say so. What cannot be sent waits on disk (`farebox.buffering`). A span is in
memory only until the next batch goes (`BATCH_DELAY_S`), so that `os._exit` and `kill -9` lose at most that; a normal
exit and a SIGTERM flush, for at most `EXIT_FLUSH_S`.
"""

from __future__ import annotations

import _thread
import codecs
import contextlib
import itertools
import os
import queue
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import trace

from farebox import config, safety, sending
from farebox._version import __version__
from farebox.buffering import Buffer
from farebox.config import Settings
from farebox.recording import RecordingTracer, SpanRecord
from farebox.sending import Reply, Sender, Verdict

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Tracer

QUEUE_MAX_SPANS = 16_384
BATCH_MAX_SPANS = 512
BATCH_DELAY_S = 1.0
SEND_TIMEOUT_S = 10.0
EXIT_FLUSH_S = 2.0
#: Of the time to close, what sending may take; the rest is for writing to disk what it did not send.
SENDING_SHARE = 0.9
FORK_WAIT_S = 2.0
BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 30.0


class Exporter:
    """Takes ended spans, and sends them in batches from a thread that starts with the first span.

    `hand_over` is safe in garbage collection and in signal handlers: `SimpleQueue.put` is reentrant, and no other lock
    is waited for.
    """

    def __init__(self, sender: Sender, buffer: Buffer, service: str | None) -> None:
        self._sender = sender
        self._service = service
        self._instance_id = str(uuid.uuid4())
        self._resource: Resource | None = None
        self._buffer = buffer
        self._spans: queue.SimpleQueue[SpanRecord | None] = queue.SimpleQueue()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._working = threading.Lock()
        self._starting = threading.Lock()
        self._thread_id: int | None = None
        self._has_ended = threading.Event()
        self._in_flight: tuple[bytes, int] | None = None
        self._has_backlog = False
        self._next_try_s = 0.0
        self._backoff_s = BACKOFF_FIRST_S
        self._closes_at_s: float | None = None

    def hand_over(self, span: SpanRecord) -> None:
        """Take an ended span; it is refused, and counted, only when `QUEUE_MAX_SPANS` already wait."""
        waiting = self._spans.qsize()
        if waiting >= QUEUE_MAX_SPANS:
            safety.lose("queue_full", 1, f"{QUEUE_MAX_SPANS} spans wait to be sent; new ones are lost.")
            return
        self._spans.put(span)
        if self._thread_id is None:
            self._start_thread()
        elif waiting + 1 >= BATCH_MAX_SPANS:
            self._wake.put(None)

    def flush(self, timeout_s: float) -> bool:
        """Send what waits, or put it on disk; True when nothing is left in memory. Runs on the caller's thread."""
        deadline_s = time.monotonic() + timeout_s
        if not self._working.acquire(timeout=timeout_s):
            return False
        try:
            with _untraced():
                self._drain(deadline_s)
        finally:
            self._working.release()
        is_done = self._spans.empty() and not self._buffer.in_memory()
        if self._has_backlog:
            self._spans.put(None)  # the thread may wait for a span without end: it has a backlog to send now
        return is_done

    def close(self, timeout_s: float) -> None:
        """Flush and stop the thread within `timeout_s`; what could not be sent by then is written to disk."""
        self._closes_at_s = time.monotonic() + timeout_s * SENDING_SHARE
        self._spans.put(None)
        self._wake.put(None)
        if self._thread_id not in (None, _thread.get_ident()) and not self._has_ended.is_set():
            # The thread does the sending, so that a name server that does not answer cannot hold up the exit.
            self._has_ended.wait(timeout_s)
        else:
            self.flush(timeout_s)
        self._rescue()
        self._buffer.close()

    def forget_after_fork(self) -> None:
        """Let go of what belongs to the parent process, in its child."""
        self._buffer.forget_after_fork()

    def _start_thread(self) -> None:
        """Start the thread without waiting until it runs, which `threading.Thread.start` does: the app's call goes on.

        It ends as a daemon does; to `threading` it is one that was started elsewhere.
        """
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread_id is None:
                self._thread_id = _thread.start_new_thread(self._work, ())
        except RuntimeError:
            # The interpreter is shutting down and starts no more threads: the exit flush takes the span.
            pass
        finally:
            self._starting.release()

    def _work(self) -> None:
        try:
            threading.current_thread().name = "farebox-export"
            with _untraced():
                while self._closes_at_s is None:
                    self._work_once()
                # The exit may come before the thread has run at all, or while it drains.
                self._drain_at_work()
                self._sender.close()
        finally:
            self._has_ended.set()

    def _work_once(self) -> None:
        try:
            self._wait()
        except Exception:  # noqa: BLE001 - a thread of control: it must outlive any fault
            safety.report("exporting.thread")
        if not self._drain_at_work():
            time.sleep(BATCH_DELAY_S)

    def _drain_at_work(self) -> bool:
        try:
            with self._working:
                self._drain(self._deadline_s())
        except Exception:  # noqa: BLE001 - a thread of control: it must outlive any fault
            safety.report("exporting.thread")
            return False
        return True

    def _wait(self) -> None:
        """Wait for a span, then for its companions: until a batch is full or the delay is over."""
        timeout_s = max(self._next_try_s - time.monotonic(), 0.01) if self._has_backlog else None
        try:
            first = self._spans.get(timeout=timeout_s)
        except queue.Empty:
            return
        if first is None:
            return
        self._spans.put(first)
        if self._spans.qsize() < BATCH_MAX_SPANS and self._closes_at_s is None:
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=BATCH_DELAY_S)

    def _drain(self, deadline_s: float) -> None:
        while batch := self._batch():
            payload = self._serialized(batch)
            if payload:
                self._in_flight = (payload, len(batch))
                self._send_or_keep(payload, len(batch), deadline_s)
                self._in_flight = None
        if self._closes_at_s is None and self._is_due():
            self._has_backlog = not self._send_waiting(deadline_s)

    def _batch(self) -> list[SpanRecord]:
        batch: list[SpanRecord] = []
        with contextlib.suppress(queue.Empty):
            while len(batch) < BATCH_MAX_SPANS:
                span = self._spans.get_nowait()
                if span is not None:
                    batch.append(span)
        return batch

    def _serialized(self, batch: Sequence[SpanRecord]) -> bytes | None:
        """One OTLP request. The SDK and protobuf are imported here, on the export thread: the app must not wait."""
        with _importing:
            from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

            if self._resource is None:
                self._resource = _resource(self._service, self._instance_id)
                codecs.lookup("idna")  # what the first connection would import
        resource = self._resource
        try:
            return encode_spans([_sdk_span(record, resource) for record in batch]).SerializeToString()
        except Exception:  # noqa: BLE001 - one span that cannot be encoded must not stop the export thread
            safety.report("exporting.encode")
        if len(batch) == 1:
            safety.lose("unencodable", 1, "a span that cannot be encoded is lost.")
            return None
        # Find the bad ones by halves; requests concatenate, as any protobuf message with repeated fields.
        middle = len(batch) // 2
        halves = (self._serialized(batch[:middle]), self._serialized(batch[middle:]))
        return b"".join(half for half in halves if half) or None

    def _send_or_keep(self, payload: bytes, spans: int, deadline_s: float) -> None:
        if self._is_due() and time.monotonic() < deadline_s:
            verdict = self._send(payload, deadline_s).verdict
            if verdict is Verdict.ACCEPTED:
                return
            if verdict is Verdict.POISON:
                safety.lose("refused", spans, "the collector refuses some spans for good; they are lost.")
                return
        self._has_backlog = True
        self._buffer.keep(payload, spans)

    def _send_waiting(self, deadline_s: float) -> bool:
        """Send what an earlier failure, or an earlier process, has left; False when some of it still waits."""
        memory = self._buffer.in_memory()
        while memory:
            if not self._is_settled(memory[0], deadline_s):
                return False
            memory.popleft()
        for file in self._buffer.waiting():
            try:
                payload = file.read_bytes()
            except OSError:
                continue
            if not self._is_settled(payload, deadline_s):
                return False
            self._buffer.remove(file)
        return True

    def _is_settled(self, payload: bytes, deadline_s: float) -> bool:
        if time.monotonic() >= deadline_s:
            return False
        return self._send(payload, deadline_s).verdict in (Verdict.ACCEPTED, Verdict.POISON)

    def _deadline_s(self) -> float:
        return time.monotonic() + SEND_TIMEOUT_S if self._closes_at_s is None else self._closes_at_s

    def _is_due(self) -> bool:
        return self._closes_at_s is not None or time.monotonic() >= self._next_try_s

    def _send(self, payload: bytes, deadline_s: float) -> Reply:
        timeout_s = max(min(SEND_TIMEOUT_S, deadline_s - time.monotonic()), 0.05)
        try:
            reply = self._sender.send(payload, timeout_s)
        except Exception as error:  # noqa: BLE001 - whatever a sender trips over, the request is kept
            safety.report("exporting.send")
            reply = Reply(Verdict.LATER, repr(error))
        if reply.verdict in (Verdict.ACCEPTED, Verdict.POISON):
            self._next_try_s, self._backoff_s = 0.0, BACKOFF_FIRST_S
            if reply.detail:
                safety.say_once("exporting.answer", f"the collector answered: {reply.detail}")
            return reply
        self._next_try_s = time.monotonic() + (reply.retry_after_s or self._backoff_s)
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_MAX_S)
        _explain(reply)
        return reply

    def _rescue(self) -> None:
        """Write to disk what is still in memory when the time to send is over.

        The thread may yet succeed with the request that it is sending; then the collector gets it twice and books it
        once.
        """
        in_flight = self._in_flight
        if in_flight is not None:
            self._buffer.keep(*in_flight)
        while batch := self._batch():
            payload = self._serialized(batch)
            if payload:
                self._buffer.keep(payload, len(batch))


def _explain(reply: Reply) -> None:
    if reply.verdict is Verdict.REFUSED_KEY:
        cause = "the collector does not accept FAREBOX_INGEST_KEY"
    else:
        cause = "the collector at FAREBOX_ENDPOINT takes no spans now"
    safety.say_once(f"exporting.{reply.verdict.value}", f"{cause} ({reply.detail}); they are kept and sent again.")


class _Pipeline:
    """What one process has of all this; made again in the child of a fork."""

    def __init__(self, settings: Settings, sender: Sender | None) -> None:
        self.sequence = itertools.count(1)
        self.exporter: Exporter | None = None
        if settings.tracer_provider == "private":
            identity = f"{settings.endpoint}\n{settings.ingest_key or ''}"
            buffer = Buffer(settings.buffer_dir, settings.buffer_max_bytes, identity)
            self.exporter = Exporter(sender or sending.sender_for(settings), buffer, settings.service)

    def tracer(self, scope: str) -> Tracer | RecordingTracer:
        if self.exporter is None:
            return trace.get_tracer_provider().get_tracer(scope, __version__)
        return RecordingTracer(scope, self.exporter.hand_over)


_pipeline: _Pipeline | None = None
_tracers: dict[str, Tracer | RecordingTracer] = {}
_starting = threading.RLock()
# Held while our thread imports, and while the process forks: a child that inherits a half-imported module, with its
# lock held by a thread that the child does not have, would wait for it for ever.
_importing = threading.Lock()
_given: tuple[Settings | None, Sender | None] = (None, None)
_is_fork_watched = False
_is_fork_child = False


def tracer(scope: str) -> Tracer | RecordingTracer:
    """The tracer for an instrumentation scope; the first call of a process makes the pipeline."""
    try:
        return _tracers[scope]
    except KeyError:
        with _starting:
            made = (_pipeline or start(*_given)).tracer(scope)
            _tracers[scope] = made
            return made


def next_sequence() -> int:
    """Number a span of this process, from 1, so that the collector can see what is missing."""
    return next((_pipeline or start(*_given)).sequence)


def start(settings: Settings | None = None, sender: Sender | None = None) -> _Pipeline:
    """Make the pipeline of this process, in place of an earlier one.

    `settings` None reads the environment; `sender` None sends where the settings say.
    """
    global _pipeline, _given, _is_fork_watched
    with _starting:
        _given = (settings, sender)
        _pipeline = _Pipeline(settings or config.read(), sender)
        _tracers.clear()
        if not _is_fork_watched and hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=_hold_imports, after_in_parent=_release_imports, after_in_child=_restart_in_child
            )
            _is_fork_watched = True
        if _pipeline.exporter is not None:
            _flush_on_sigterm()
            _flush_at_worker_exit()
        return _pipeline


def prepare() -> None:
    """Make the pipeline unless there is one, so that the first call need not wait for it."""
    if _pipeline is None:
        start(*_given)


def flush(timeout_s: float = EXIT_FLUSH_S) -> bool:
    """Send what waits now; True when nothing is left in memory. With a global provider it is asked to flush."""
    if _pipeline is None:
        return True
    if _pipeline.exporter is not None:
        return _pipeline.exporter.flush(timeout_s)
    force_flush: Callable[[int], bool] | None = getattr(trace.get_tracer_provider(), "force_flush", None)
    return force_flush(int(timeout_s * 1000)) if force_flush else True


def stop(timeout_s: float = EXIT_FLUSH_S) -> None:
    """Flush and end the pipeline; a later call makes a new one."""
    global _pipeline
    with _starting:
        ended, _pipeline = _pipeline, None
        _tracers.clear()
    if ended is not None and ended.exporter is not None:
        ended.exporter.close(timeout_s)


def _resource(service: str | None, instance_id: str) -> Resource:
    """The app's own resource attributes, and the process.

    `Resource.create` is avoided: it runs detectors, some of which start programs.
    """
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.version import __version__ as sdk_version

    attributes = {
        "service.name": "unknown_service",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": sdk_version,
    }
    named = {"service.instance.id": instance_id, **({"service.name": service} if service else {})}
    return Resource(attributes).merge(OTELResourceDetector().detect()).merge(Resource(named))


def _sdk_span(record: SpanRecord, resource: Resource) -> ReadableSpan:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    return ReadableSpan(
        name=record.name,
        context=record.get_span_context(),
        parent=record.parent,
        resource=resource,
        attributes=record.attributes,
        kind=record.kind,
        status=record.status or trace.Status(),
        start_time=record.start_time,
        end_time=record.end_ns,
        instrumentation_scope=InstrumentationScope(record.scope, __version__),
    )


@contextlib.contextmanager
def _untraced() -> Iterator[None]:
    """Keep the app's own instrumentation from tracing our requests."""
    context = otel_context.set_value("suppress_instrumentation", True)
    for key in ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY"):
        if name := getattr(otel_context, key, None):
            context = otel_context.set_value(name, True, context)
    token = otel_context.attach(context)
    try:
        yield
    finally:
        otel_context.detach(token)


def _hold_imports() -> None:
    _importing.acquire(timeout=FORK_WAIT_S)


def _release_imports() -> None:
    with contextlib.suppress(RuntimeError):  # the wait was over before the import was
        _importing.release()


def _restart_in_child() -> None:
    """Let the child of a fork make its own queue, thread, connection, folder and instance id when it needs them."""
    global _pipeline, _starting, _importing, _is_fork_child
    _starting, _importing, _is_fork_child = threading.RLock(), threading.Lock(), True
    inherited, _pipeline = _pipeline, None
    _tracers.clear()
    try:
        if inherited is not None and inherited.exporter is not None:
            inherited.exporter.forget_after_fork()
    except Exception:  # noqa: BLE001 - a fault of ours must not break the fork of the app
        safety.report("exporting.fork")


def flush_at_exit() -> None:
    """The exit of the process: what cannot be sent in time goes to disk."""
    try:
        stop(EXIT_FLUSH_S)
    except Exception:  # noqa: BLE001 - nothing may be raised into the app's exit
        safety.report("exporting.exit")


def _flush_at_worker_exit() -> None:
    """Flush at the end of a forked worker of `multiprocessing`, or of Celery's copy of it.

    They end by `os._exit`, which runs no exit handlers but their own.
    """
    for name in ("multiprocessing.util", "billiard.util"):
        finalize = getattr(sys.modules.get(name), "Finalize", None)
        if _is_fork_child and finalize is not None:
            finalize(None, flush_at_exit, exitpriority=-1000)


def _flush_on_sigterm() -> None:
    """Flush before a SIGTERM that nobody handles ends the process; an app that handles it exits in its own way."""
    try:
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _end_by_sigterm)
    except (ValueError, OSError):
        # Not the main interpreter: signals are not ours to handle.
        return


def _end_by_sigterm(number: int, frame: object) -> None:
    flush_at_exit()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
