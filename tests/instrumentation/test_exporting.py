"""The private pipeline against a real receiver: outages, forks, signals and exits lose nothing that can be kept."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import farebox
from farebox import config, exporting, safety
from tests.fakes.provider import FakeProvider
from tests.fakes.receiver import FakeReceiver
from tests.instrumentation import processes


@pytest.fixture
def receiver() -> Iterator[FakeReceiver]:
    with FakeReceiver() as fake:
        yield fake


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def record(number: int) -> None:
    assert farebox.record_usage(provider="acme", model=f"m-{number}", input_tokens=number)


@pytest.fixture
def pipeline(receiver: FakeReceiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FAREBOX_ENDPOINT", receiver.url)
    exporting.start(config.read())
    yield
    exporting.stop(1)


def stored(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.otlp"))


@pytest.mark.usefixtures("pipeline")
def test_spans_go_by_themselves_in_batches(receiver: FakeReceiver) -> None:
    for number in range(100):
        record(number)

    assert len(receiver.wait_for(100)) == 100
    assert len(receiver.requests) <= 3
    assert receiver.requests[0].path == "/v1/traces"
    assert receiver.requests[0].headers["content-type"] == "application/x-protobuf"
    assert "authorization" not in receiver.requests[0].headers


@pytest.mark.usefixtures("pipeline")
def test_every_span_of_a_process_has_a_number_and_the_process_a_name(receiver: FakeReceiver) -> None:
    for number in range(3):
        record(number)
    exporting.flush()

    spans = receiver.spans
    assert [span.attributes["farebox.sequence"] for span in spans] == [1, 2, 3]
    assert len({span.resource["service.instance.id"] for span in spans}) == 1
    assert spans[0].resource["telemetry.sdk.language"] == "python"


def test_the_key_is_sent_and_only_ours(
    receiver: FakeReceiver, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The app's own exporter settings, proxies and netrc neither receive our key nor add their headers."""
    with FakeReceiver() as vendor:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login theirs password theirs\n")
        netrc.chmod(0o600)
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": vendor.url,
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{vendor.url}/v1/traces",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-vendor-key=theirs",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=theirs",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/nowhere",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "0.0001",
            "HTTP_PROXY": vendor.url,
            "http_proxy": vendor.url,
            "ALL_PROXY": vendor.url,
            "NETRC": str(netrc),
            "FAREBOX_ENDPOINT": receiver.url,
            "FAREBOX_INGEST_KEY": "fbk_ours",
        }
        code = """
            import farebox
            assert farebox.record_usage(model="m", input_tokens=1)
        """
        done = processes.run(code, processes.environment(tmp_path / "buffer", **variables))

        assert (done.returncode, done.stderr) == (0, "")
        assert len(receiver.wait_for(1)) == 1
        assert receiver.requests[0].headers["authorization"] == "Bearer fbk_ours"
        assert "x-vendor-key" not in receiver.requests[0].headers
        assert "content-encoding" not in receiver.requests[0].headers
        assert vendor.requests == []


def test_the_app_names_its_service(receiver: FakeReceiver, tmp_path: Path) -> None:
    code = """
        import farebox
        farebox.record_usage(model="m")
    """
    variables = {
        "FAREBOX_ENDPOINT": receiver.url,
        "OTEL_SERVICE_NAME": "otel-name",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test,team=blue",
        "FAREBOX_PROJECT": "tram",
        "FAREBOX_TAGS": "a, b",
    }
    processes.run(code, processes.environment(tmp_path, **variables))
    processes.run(code, processes.environment(tmp_path, **variables, FAREBOX_SERVICE="our-name"))

    first, second = receiver.wait_for(2)
    assert first.resource["service.name"] == "otel-name"
    assert first.resource["team"] == "blue"
    assert first.attributes["farebox.project"] == "tram"
    assert first.attributes["farebox.tags"] == ["a", "b"]
    assert second.resource["service.name"] == "our-name"
    assert second.attributes["farebox.service"] == "our-name"


@pytest.mark.usefixtures("pipeline")
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_what_the_collector_does_not_take_now_is_kept_and_sent_again(
    receiver: FakeReceiver, status: int, tmp_path: Path
) -> None:
    receiver.status = status
    record(1)
    exporting.flush()
    assert len(stored(tmp_path)) == 1
    record(2)
    exporting.flush()
    assert len(receiver.requests) == 1, "a collector that has just refused is left in peace"
    receiver.status = 200

    receiver.wait_for(2)

    assert {span.name for span in receiver.spans} == {"chat m-1", "chat m-2"}
    wait_until(lambda: stored(tmp_path) == [])


@pytest.mark.usefixtures("pipeline")
def test_what_the_collector_refuses_for_good_is_counted_not_repeated(receiver: FakeReceiver, tmp_path: Path) -> None:
    receiver.status = 400
    record(1)
    exporting.flush()
    receiver.status = 200
    record(2)
    exporting.flush()

    assert [span.name for span in receiver.spans] == ["chat m-2"]
    assert stored(tmp_path) == []
    assert safety.losses == {"refused": 1}


def wait_until(condition: Any, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_collector_that_is_away_loses_nothing_and_the_app_does_not_feel_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    port = free_port()
    monkeypatch.setenv("FAREBOX_ENDPOINT", f"http://127.0.0.1:{port}")
    exporting.start(config.read())
    started = time.perf_counter()
    for number in range(1000):
        record(number)
    took_s = time.perf_counter() - started
    exporting.flush()
    assert len(stored(tmp_path)) >= 1

    with FakeReceiver(port) as receiver:
        receiver.wait_for(1000)
        exporting.stop()

        assert took_s < 2
        assert {span.name for span in receiver.spans} == {f"chat m-{number}" for number in range(1000)}
        assert len({span.span_id for span in receiver.spans}) == 1000
        assert stored(tmp_path) == []
        assert safety.losses == {}


def test_the_next_process_sends_what_a_dead_one_left(receiver: FakeReceiver, tmp_path: Path) -> None:
    code = """
        import farebox
        farebox.record_usage(model="m", input_tokens=1)
    """
    away = processes.environment(tmp_path, FAREBOX_ENDPOINT=receiver.url)
    receiver.status = 503
    for _ in range(3):
        assert processes.run(code, away).returncode == 0
    assert len(stored(tmp_path)) == 3
    receiver.status = 200

    code = code + "    from farebox import exporting\n    exporting.flush(5)\n"
    assert processes.run(code.replace("\n        ", "\n    "), away).returncode == 0

    assert len(receiver.wait_for(4)) == 4
    assert stored(tmp_path) == []
    assert list(tmp_path.rglob("lock")) == []


def test_the_files_of_a_living_process_are_its_own(receiver: FakeReceiver, tmp_path: Path) -> None:
    code = """
        import farebox, sys
        from farebox import exporting
        farebox.record_usage(model="m", input_tokens=1)
        exporting.flush(5)
        print("ready", flush=True)
        sys.stdin.readline()
    """
    receiver.status = 503
    environ = processes.environment(tmp_path, FAREBOX_ENDPOINT=receiver.url)
    living = processes.start(code, environ)
    try:
        assert living.stdout is not None
        assert living.stdout.readline() == "ready\n"
        (file,) = stored(tmp_path)
        from farebox.buffering import Buffer

        other = Buffer(tmp_path, 1 << 20, f"{receiver.url}\n")
        assert other.waiting() == []
        living.kill()
        living.wait(10)
        assert other.waiting() == [file]
        other.close()
    finally:
        living.kill()
        living.communicate(timeout=10)


def test_senders_with_another_key_do_not_send_each_others_files(receiver: FakeReceiver, tmp_path: Path) -> None:
    code = """
        import farebox
        farebox.record_usage(model="m", input_tokens=1)
    """
    receiver.status = 503
    first = processes.environment(tmp_path, FAREBOX_ENDPOINT=receiver.url, FAREBOX_INGEST_KEY="key-a")
    assert processes.run(code, first).returncode == 0
    receiver.status = 200
    receiver.requests.clear()
    second = processes.environment(tmp_path, FAREBOX_ENDPOINT=receiver.url, FAREBOX_INGEST_KEY="key-b")
    assert processes.run(code, second).returncode == 0

    assert [request.headers["authorization"] for request in receiver.requests] == ["Bearer key-b"]
    assert len(stored(tmp_path)) == 1


ENDINGS = {
    "normal": "pass",
    "sys.exit": "sys.exit(3)",
    "exception": "raise RuntimeError",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(10)",
    "SIGTERM handled": "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); os.kill(os.getpid(), signal.SIGTERM)",
    "in a thread": "t = threading.Thread(target=record); t.start(); t.join()",
    "in atexit": "atexit.register(record)",
}
CODES = {"sys.exit": 3, "exception": 1, "SIGTERM": -signal.SIGTERM, "SIGTERM handled": 5}


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_an_exit_flushes(receiver: FakeReceiver, provider: FakeProvider, tmp_path: Path, ending: str) -> None:
    code = f"""
        import atexit, os, signal, sys, threading, time
        import openai
        client = openai.OpenAI(base_url="{provider.url}/v1", api_key="k")
        def record():
            client.embeddings.create(model="text-embedding-3-small", input="x")
        record()
        {ENDINGS[ending]}
    """
    started = time.monotonic()
    done = processes.run(code, processes.environment(tmp_path, FAREBOX_ENDPOINT=receiver.url))

    assert done.returncode == CODES.get(ending, 0), done.stderr
    assert time.monotonic() - started < 20
    assert len(receiver.wait_for(len(provider.served))) == (2 if ending in ("in a thread", "in atexit") else 1)


def test_an_exit_waits_two_seconds_at_most_and_keeps_the_rest(receiver: FakeReceiver, tmp_path: Path) -> None:
    code = """
        import farebox, time
        farebox.record_usage(model="m", input_tokens=1)
        started = time.monotonic()
        from farebox import exporting
        exporting.flush_at_exit()
        print(time.monotonic() - started)
    """
    receiver.delay_s = 8
    done = processes.run(code, processes.environment(tmp_path, FAREBOX_ENDPOINT=receiver.url))

    assert float(done.stdout) < 3, done.stderr
    assert len(stored(tmp_path)) == 1


def test_a_process_that_ends_before_its_export_thread_has_run_sends_its_spans(
    receiver: FakeReceiver, tmp_path: Path
) -> None:
    code = """
        import farebox, sys
        sys.setswitchinterval(100)  # other threads run when this one waits, which it does at its exit
        farebox.record_usage(model="first", input_tokens=1)
        farebox.record_usage(model="last", input_tokens=1)
    """
    processes.run(code, processes.environment(tmp_path, FAREBOX_ENDPOINT=receiver.url))

    assert [span.name for span in receiver.spans] == ["chat first", "chat last"]
    assert stored(tmp_path) == []


def test_an_app_sees_one_daemon_more_with_a_name_of_ours(receiver: FakeReceiver, tmp_path: Path) -> None:
    code = """
        import farebox, threading, time
        farebox.record_usage(model="m", input_tokens=1)
        time.sleep(1.5)
        print([(thread.name, thread.daemon) for thread in threading.enumerate()])
    """
    done = processes.run(code, processes.environment(tmp_path, FAREBOX_ENDPOINT=receiver.url))

    assert done.stdout.strip() == "[('MainThread', False), ('farebox-export', True)]"
    assert [span.name for span in receiver.spans] == ["chat m"]


def test_os_exit_loses_only_what_was_not_yet_sent(receiver: FakeReceiver, tmp_path: Path) -> None:
    """`os._exit` runs no exit code: what is younger than the batch delay is gone; what is older has been sent."""
    code = """
        import farebox, os, time
        farebox.record_usage(model="sent", input_tokens=1)
        time.sleep(2)
        farebox.record_usage(model="lost", input_tokens=1)
        os._exit(0)
    """
    processes.run(code, processes.environment(tmp_path, FAREBOX_ENDPOINT=receiver.url))

    assert [span.name for span in receiver.spans] == ["chat sent"]


def test_a_forked_child_has_its_own_pipeline(receiver: FakeReceiver, tmp_path: Path) -> None:
    code = """
        import farebox, os, sys, time
        farebox.record_usage(model="parent-before", input_tokens=1)
        children = []
        for number in range(3):
            pid = os.fork()
            if pid == 0:
                farebox.record_usage(model=f"child-{number}", input_tokens=1)
                sys.exit(0)
            children.append(pid)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        farebox.record_usage(model="parent-after", input_tokens=1)
    """
    done = processes.run(code, processes.environment(tmp_path, FAREBOX_ENDPOINT=receiver.url))

    assert done.returncode == 0, done.stderr
    spans = {span.name: span for span in receiver.wait_for(5)}
    assert set(spans) == {"chat parent-before", "chat child-0", "chat child-1", "chat child-2", "chat parent-after"}
    instances = {name: span.resource["service.instance.id"] for name, span in spans.items()}
    assert instances["chat parent-before"] == instances["chat parent-after"]
    assert len(set(instances.values())) == 4
    assert [spans[f"chat child-{number}"].attributes["farebox.sequence"] for number in range(3)] == [1, 1, 1]
    assert spans["chat parent-after"].attributes["farebox.sequence"] == 2


@pytest.mark.parametrize("pause_s", [0.0, 0.01, 0.03, 0.06])
def test_a_fork_while_our_thread_imports_hangs_no_child(receiver: FakeReceiver, tmp_path: Path, pause_s: float) -> None:
    code = f"""
        import farebox, os, sys, time
        from farebox import exporting
        exporting.BATCH_DELAY_S = 0
        farebox.record_usage(model="parent", input_tokens=1)
        time.sleep({pause_s})
        pid = os.fork()
        if pid == 0:
            farebox.record_usage(model="child", input_tokens=1)
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    """
    started = time.monotonic()
    done = processes.run(code, processes.environment(tmp_path, FAREBOX_ENDPOINT=receiver.url))

    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 20
    assert {span.name for span in receiver.wait_for(2)} == {"chat parent", "chat child"}


def test_workers_of_a_preloading_server_are_metered(
    receiver: FakeReceiver, provider: FakeProvider, tmp_path: Path
) -> None:
    """As gunicorn with `--preload`: the app and its client are made before the fork, calls come after it."""
    code = f"""
        import multiprocessing, openai
        client = openai.OpenAI(base_url="{provider.url}/v1", api_key="k")
        def work(number):
            client.embeddings.create(model="text-embedding-3-small", input=str(number))
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=work, args=(number,)) for number in range(3)]
        for worker in workers: worker.start()
        for worker in workers:
            worker.join(); assert worker.exitcode == 0
    """
    done = processes.run(code, processes.environment(tmp_path, FAREBOX_ENDPOINT=receiver.url))

    assert done.returncode == 0, done.stderr
    wait_until(lambda: len(receiver.spans) + len(stored(tmp_path)) >= 3)
    assert len(receiver.spans) == 3


def test_a_full_buffer_refuses_new_spans_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FAREBOX_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("FAREBOX_BUFFER_MAX_BYTES", "1500")
    exporting.start(config.read())
    for number in range(5):
        record(number)
        exporting.flush()
    exporting.stop()

    kept = stored(tmp_path)
    assert 1 <= len(kept) < 5
    assert sum(file.stat().st_size for file in kept) <= 1500
    assert safety.losses == {"buffer_full": 5 - len(kept)}
    assert "FAREBOX_BUFFER_MAX_BYTES" in caplog.text


def test_an_unwritable_buffer_is_said_once_and_memory_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FAREBOX_BUFFER_DIR", str(tmp_path / "file" / "buffer"))
    monkeypatch.setenv("FAREBOX_ENDPOINT", f"http://127.0.0.1:{port}")
    exporting.start(config.read())
    record(1)
    exporting.flush()
    record(2)
    exporting.flush()

    with FakeReceiver(port) as receiver:
        receiver.wait_for(2)

    exporting.stop()
    assert caplog.text.count("FAREBOX_BUFFER_DIR") == 1


def test_many_threads_lose_nothing(receiver: FakeReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREBOX_ENDPOINT", receiver.url)
    exporting.start(config.read())
    threads = [threading.Thread(target=lambda: list(map(record, range(200)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    exporting.stop(10)

    assert len(receiver.spans) == 1600
    assert sorted(span.attributes["farebox.sequence"] for span in receiver.spans) == list(range(1, 1601))


def test_grpc_is_spoken_on_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from concurrent import futures

    import grpc
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    came: list[Any] = []

    class Service(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            came.append((request, dict(context.invocation_metadata())))
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        code = """
            import farebox
            farebox.record_usage(model="m", input_tokens=1)
        """
        environ = processes.environment(
            tmp_path,
            FAREBOX_ENDPOINT=f"http://127.0.0.1:{port}",
            FAREBOX_PROTOCOL="grpc",
            FAREBOX_INGEST_KEY="fbk_ours",
        )
        done = processes.run(code, environ)
    finally:
        server.stop(0).wait()

    assert done.returncode == 0, done.stderr
    request, metadata = came[0]
    assert request.resource_spans[0].scope_spans[0].spans[0].name == "chat m"
    assert metadata["authorization"] == "Bearer fbk_ours"


def test_our_requests_are_not_traced_by_the_app(receiver: FakeReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled, is_instrumentation_enabled

    seen: list[bool] = []

    class Watching:
        def send(self, payload: bytes, timeout_s: float) -> Any:
            seen.extend([is_instrumentation_enabled(), is_http_instrumentation_enabled()])
            from farebox.sending import Reply, Verdict

            return Reply(Verdict.ACCEPTED)

        def close(self) -> None:
            pass

    exporting.start(config.read(), Watching())
    record(1)
    exporting.flush()
    record(2)
    wait_until(lambda: len(seen) == 4)
    exporting.stop()

    assert seen == [False] * 4
    assert is_instrumentation_enabled()


def test_the_first_call_after_the_import_is_not_slow(provider: FakeProvider, receiver: FakeReceiver) -> None:
    """Making the pipeline takes far less than a call: it is ready before the first one."""
    client = openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k")
    farebox.instrument()
    try:
        assert exporting._pipeline is not None
        client.embeddings.create(model="text-embedding-3-small", input="x")
    finally:
        farebox.uninstrument()
        exporting.stop()
