"""What metering adds to a call, a chunk, an import and a start, against floors and a peer measured in the same run.

Run: .venv/bin/python benchmarks/instrumentation.py [--quick] [--peers] [--json]

The floor of a call is one wrapt call and one span of the OpenTelemetry SDK with 15 attributes set at once. Floor,
farebox and the bare method answer the same canned object, in turns, on thread CPU time. `real SDK` is the SDK itself
over a transport in memory, patched and unpatched in turns in one process. Starts and imports are processes of their
own, in turns, by the CPU time that the system counts for them; the start-up hook runs in an environment that holds
nothing else. `--peers` makes an environment with openinference below `.venvs` (from the package index, once) and
measures everything in there, openinference's calls and import beside ours.

Where a figure is the difference of two and goes into a ratio, it is the median of the differences of each round. Where
its target is an absolute one (a chunk, the hook), it is the difference of the least disturbed rounds: others share the
CPU, and its caches. Only ratios carry over to other machines. Nothing leaves the machine but the installation that
`--peers` asks for.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import openai
import wrapt
from openai._models import FinalRequestOptions
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

import farebox
from farebox import config, exporting, metering
from farebox.recording import SpanRecord
from farebox.sending import Reply, Verdict

ROOT: Final = Path(__file__).resolve().parent.parent
CALLS: Final = 400
CHUNKS: Final = 1000
SDK_CALLS: Final = 40
SDK_CHUNKS: Final = 200
WARM_UP: Final = 2
ABORTED: Final = 10_000
NOWHERE: Final = "http://127.0.0.1:9"

ANSWER_JSON: Final[dict[str, Any]] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-2024-08-06",
    "service_tier": "default",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}],
    "usage": {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 100, "audio_tokens": 0},
    },
}
CHUNK_JSON: Final[dict[str, Any]] = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}],
}
ANSWER: Final = ChatCompletion.model_validate(ANSWER_JSON)
CHUNK: Final = ChatCompletionChunk.model_validate(CHUNK_JSON)
BODY: Final = {"model": "gpt-4o", "messages": []}

FIRST_CALL: Final = """
import json, statistics, sys, time
import httpx2, openai, farebox
answer = json.loads(sys.argv[1])
transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json=answer))
client = openai.OpenAI(api_key="k", base_url="http://provider/v1", http_client=httpx2.Client(transport=transport))
def call():
    started, started_cpu = time.perf_counter(), time.thread_time()
    client.chat.completions.create(model="gpt-4o", messages=[])
    return time.perf_counter() - started, time.thread_time() - started_cpu
with farebox.suppress():
    cold, _ = call()
    for _ in range(30):
        call()
first, first_cpu = call()
later, later_cpu = map(statistics.median, zip(*(call() for _ in range(100))))
print(json.dumps({"cold": cold, "first": first, "first_cpu": first_cpu, "later": later, "later_cpu": later_cpu}))
"""
IMPORTS: Final = {
    "plain": ("import openai", False),
    "farebox": ("import openai", True),
    "farebox, exporter": (
        "import openai\nfrom farebox import exporting\nexporting.prepare()\n"
        "from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans\n"
        "from opentelemetry.sdk.trace import ReadableSpan\nexporting._resource(None, 'x')",
        True,
    ),
}
PEER_IMPORTS: Final = {
    "openinference": (
        "import openai\nfrom opentelemetry.sdk.trace import TracerProvider\n"
        "from openinference.instrumentation.openai import OpenAIInstrumentor\n"
        "OpenAIInstrumentor().instrument(tracer_provider=TracerProvider())",
        False,
    ),
    "openinference, exporter": (
        "import openai\nfrom opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import BatchSpanProcessor\n"
        "from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter\n"
        "from openinference.instrumentation.openai import OpenAIInstrumentor\n"
        f"provider = TracerProvider()\nexporter = OTLPSpanExporter(endpoint='{NOWHERE}/v1/traces')\n"
        "provider.add_span_processor(BatchSpanProcessor(exporter))\n"
        "OpenAIInstrumentor().instrument(tracer_provider=provider)",
        False,
    ),
}


@dataclass(frozen=True)
class Rounds:
    """How often each thing is measured."""

    calls: int
    sdk: int
    starts: int
    imports: int
    first_calls: int


FULL: Final = Rounds(calls=25, sdk=21, starts=150, imports=25, first_calls=21)
QUICK: Final = Rounds(calls=7, sdk=7, starts=40, imports=7, first_calls=7)


@dataclass(frozen=True)
class Finding:
    """One figure; `target` is what it may be at most, None where it is for information."""

    name: str
    measured: float
    unit: str
    target: float | None = None

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "holds" if self.measured <= self.target else "does not hold"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: some twenty seconds")
    parser.add_argument("--peers", action="store_true", help="measure openinference too, in an environment of its own")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    if asked.peers and not has_peers():
        return in_their_environment()
    with tempfile.TemporaryDirectory(prefix="farebox-benchmark-", ignore_cleanup_errors=True) as buffer:
        os.environ["FAREBOX_BUFFER_DIR"] = buffer
        findings = list(measured(QUICK if asked.quick else FULL, with_peers=asked.peers))
    if asked.json:
        print(json.dumps([{**asdict(finding), "verdict": finding.verdict} for finding in findings], indent=1))
    else:
        show(findings)
    return 0


def has_peers() -> bool:
    return importlib.util.find_spec("openinference") is not None


def in_their_environment() -> int:
    """Run this once more, with the Python of an environment that holds farebox, openai and openinference."""
    sys.path.insert(0, str(ROOT))
    import run

    folder = ROOT / ".venvs" / "benchmark-peers"
    code = run.make_sdk_environment(folder, ROOT / "constraints" / "emitters" / "openinference.txt")
    python = folder / run.BIN.name / "python"
    return code or subprocess.run([python, *sys.argv], check=False).returncode


def measured(rounds: Rounds, *, with_peers: bool) -> Iterator[Finding]:
    exporting.start(config.read(), Nowhere())
    farebox.instrument()
    yield from per_call(rounds.calls)
    yield from per_chunk(rounds.calls)
    yield from aborted_streams()
    yield from through_the_sdk(rounds.sdk, with_peers=with_peers)
    farebox.uninstrument()
    exporting.stop()
    yield from start_up(rounds.starts)
    yield from first_call(rounds.first_calls)
    yield from imports(rounds.imports, with_peers=with_peers)


class Nowhere:
    """A sender that takes all, so that no socket is measured."""

    def send(self, payload: bytes, timeout_s: float) -> Reply:
        return Reply(Verdict.ACCEPTED)

    def close(self) -> None:
        pass


# One call and one chunk over a canned answer.


class Canned:
    """An SDK client whose request takes no time."""

    base_url = openai.OpenAI(api_key="k").base_url

    def request(self, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        return Chunks() if stream else ANSWER


class AsyncCanned:
    """The same for coroutines."""

    base_url = Canned.base_url

    async def request(self, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        return AsyncChunks() if stream else ANSWER


class Chunks:
    """A stream of canned chunks."""

    def __init__(self) -> None:
        self._left = CHUNKS

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self._left:
            raise StopIteration
        self._left -= 1
        return CHUNK


class AsyncChunks:
    """The same for coroutines."""

    def __init__(self) -> None:
        self._left = CHUNKS

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        return CHUNK


def metered(client: type[Any]) -> Any:
    wrapper, _ = metering.wrapped("openai", client.request)
    return type("Metered", (client,), {"request": wrapper})().request


def floor_of_a_call() -> Callable[..., Any]:
    tracer = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False).get_tracer("floor")
    attributes = {f"gen_ai.attribute.{number}": number for number in range(15)}

    def meter(inner: Any, owner: Any, args: Any, kwargs: Any) -> Any:
        span = tracer.start_span("chat gpt-4o")
        result = inner(*args, **kwargs)
        span.set_attributes(attributes)
        span.end()
        return result

    return type("Floor", (Canned,), {"request": wrapt.FunctionWrapper(Canned.request, meter)})().request  # type: ignore[no-any-return]


def options_of(**body: Any) -> FinalRequestOptions:
    return FinalRequestOptions.construct(method="post", url="/chat/completions", json_data={**BODY, **body})


def calling(request: Callable[..., Any]) -> Callable[[], float]:
    options = options_of()

    def work() -> None:
        for _ in range(CALLS):
            request(object, options)

    return lambda: cpu_us(work)


def calling_async(request: Callable[..., Any]) -> Callable[[], float]:
    options = options_of()

    async def calls() -> None:
        for _ in range(CALLS):
            await request(object, options)

    return lambda: cpu_us(lambda: asyncio.run(calls()))


def reading(request: Callable[..., Any]) -> Callable[[], float]:
    options = options_of(stream=True)

    def work() -> None:
        for _ in request(object, options, stream=True):
            pass

    return lambda: cpu_us(work)


def reading_async(request: Callable[..., Any]) -> Callable[[], float]:
    options = options_of(stream=True)

    async def read() -> None:
        async for _ in await request(object, options, stream=True):
            pass

    return lambda: cpu_us(lambda: asyncio.run(read()))


def per_call(rounds: int) -> Iterator[Finding]:
    costs = in_turns(
        {
            "plain": calling(Canned().request),
            "floor": calling(floor_of_a_call()),
            "farebox": calling(metered(Canned)),
            "plain async": calling_async(AsyncCanned().request),
            "farebox async": calling_async(metered(AsyncCanned)),
        },
        rounds,
        after=exporting.flush,
    )
    floor = added(costs, "floor", "plain") / CALLS
    ours = added(costs, "farebox", "plain") / CALLS
    ours_async = added(costs, "farebox async", "plain async") / CALLS
    yield Finding("call: the floor adds", floor, "us")
    yield Finding("call: farebox adds", ours, "us")
    yield Finding("call: farebox against the floor", ours / floor, "x", 2.0)
    yield Finding("call: farebox, async, against the floor", ours_async / floor, "x", 2.0)
    yield Finding("call: later, on the export thread", exported(rounds), "us")


def exported(rounds: int) -> float:
    """What batching and encoding cost the process, a call: the CPU time of all threads but the app's."""
    found = []
    calls = calling(metered(Canned))
    for _ in range(rounds):
        gc.collect()
        started = time.process_time()
        own_us = calls()
        exporting.flush()
        found.append(((time.process_time() - started) * 1e6 - own_us) / CALLS)
    return statistics.median(found)


def per_chunk(rounds: int) -> Iterator[Finding]:
    costs = in_turns(
        {
            "plain": reading(Canned().request),
            "farebox": reading(metered(Canned)),
            "plain async": reading_async(AsyncCanned().request),
            "farebox async": reading_async(metered(AsyncCanned)),
        },
        rounds,
        after=exporting.flush,
    )
    yield Finding("chunk: farebox adds", least_added(costs, "farebox", "plain") / CHUNKS, "us", 1.0)
    yield Finding("chunk: farebox adds, async", least_added(costs, "farebox async", "plain async") / CHUNKS, "us", 1.0)


def aborted_streams() -> Iterator[Finding]:
    """Streams of which one chunk is read: dropped, or closed.

    Any object left of each of them would be half a megabyte; 64 KiB is what dictionaries and caches breathe.
    """
    request, options = metered(Canned), options_of(stream=True)

    def abort(times: int) -> None:
        for _ in range(times):
            next(request(object, options, stream=True))
        exporting.flush()
        gc.collect()

    abort(ABORTED // 10)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(10):
        abort(ABORTED // 10)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    alive = sum(type(thing) is SpanRecord for thing in gc.get_objects())
    yield Finding(f"memory: growth over {ABORTED} aborted streams", (after - before) / 1024, "KiB", 64.0)
    yield Finding("memory: spans that are still there", alive, "", 0.0)


# The real SDK, over a transport in memory.


def through_the_sdk(rounds: int, *, with_peers: bool) -> Iterator[Finding]:
    """Patch and unpatch in turns, so that both are measured in the same state of the same process.

    Openinference comes when farebox is done: it leaves a method of its own on the client's class, past which no other
    patch is reached.
    """
    call, stream = sdk_calls()
    peers: dict[str, Callable[[], Any]] = {"farebox": patched_by_farebox}
    if with_peers:
        peers["openinference"] = patched_by_openinference
    for name, patched in peers.items():
        for what, work, units in (("a call", call, SDK_CALLS), ("a chunk", stream, SDK_CHUNKS)):
            measures = {"plain": under(unpatched, work), name: under(patched, work)}
            costs = in_turns(measures, rounds, after=exporting.flush)
            yield Finding(f"real SDK: {what}, unpatched", statistics.median(costs["plain"]) / units, "us")
            yield Finding(f"real SDK: {what}, {name} adds", added(costs, name, "plain") / units, "us")


def sdk_calls() -> tuple[Callable[[], None], Callable[[], None]]:
    events = b"".join(b"data: " + json.dumps(CHUNK_JSON).encode() + b"\n\n" for _ in range(SDK_CHUNKS))
    event_stream = {"content-type": "text/event-stream"}

    def answer(request: httpx2.Request) -> httpx2.Response:
        if b'"stream":true' in request.content:
            return httpx2.Response(200, headers=event_stream, content=events + b"data: [DONE]\n\n")
        return httpx2.Response(200, json=ANSWER_JSON)

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = openai.OpenAI(api_key="k", base_url="http://provider.test/v1", http_client=http)

    def call() -> None:
        for _ in range(SDK_CALLS):
            client.chat.completions.create(model="gpt-4o", messages=[])

    def stream() -> None:
        for _ in client.chat.completions.create(model="gpt-4o", messages=[], stream=True):
            pass

    return call, stream


@contextmanager
def unpatched() -> Iterator[None]:
    farebox.uninstrument()
    yield


@contextmanager
def patched_by_farebox() -> Iterator[None]:
    farebox.instrument()
    yield
    farebox.uninstrument()


@contextmanager
def patched_by_openinference() -> Iterator[None]:
    instrumentor = importlib.import_module("openinference.instrumentation.openai").OpenAIInstrumentor

    farebox.uninstrument()
    instrumentor().instrument(tracer_provider=TracerProvider(shutdown_on_exit=False))
    yield
    instrumentor().uninstrument()


def under(switch: Callable[[], Any], work: Callable[[], None]) -> Callable[[], float]:
    def timed() -> float:
        with switch():
            work()  # patching clears caches of the interpreter
            return cpu_us(work)

    return timed


# Processes of their own.


def start_up(rounds: int) -> Iterator[Finding]:
    """The hook in an environment that holds farebox alone, as an installation would put it there."""
    with tempfile.TemporaryDirectory(prefix="farebox-start-") as folder:
        bare, hooked = environment_in(Path(folder) / "bare"), environment_in(Path(folder) / "hooked")
        for hook in (ROOT / "instrumentation" / "hooks").iterdir():
            shutil.copy(hook, site_packages(hooked))
        off, on = {"FAREBOX_ENABLED": None}, {"FAREBOX_ENABLED": "1"}
        costs = in_turns(
            {
                "without": lambda: process_us(bare, "pass", off),
                "off": lambda: process_us(hooked, "pass", off),
                "on": lambda: process_us(hooked, "pass", on),
            },
            rounds,
        )
    yield Finding("start: python -c pass", statistics.median(costs["without"]) / 1e3, "ms")
    yield Finding("start: the hook adds when off", least_added(costs, "off", "without") / 1e3, "ms", 0.25)
    yield Finding("start: the hook adds when on, no SDK imported", least_added(costs, "on", "without") / 1e3, "ms", 0.5)


def environment_in(folder: Path) -> Path:
    """Make an environment that holds the app side, compiled, and no hook; answers its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python" if os.name == "posix" else folder / "Scripts" / "python.exe"
    compiled_in(site_packages(python), python)
    return python


def compiled_in(folder: Path, python: Path) -> None:
    """Put the app side into a folder with its bytecode, as pip installs it and the peer; a checkout may have none."""
    package = folder / "farebox"
    shutil.copytree(ROOT / "instrumentation" / "farebox", package, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([python, "-m", "compileall", "-q", package], check=True)


@contextmanager
def installed_app_side() -> Iterator[dict[str, str]]:
    """The environment of processes that import farebox as an app does, where it was installed."""
    with tempfile.TemporaryDirectory(prefix="farebox-installed-") as folder:
        compiled_in(Path(folder), Path(sys.executable))
        yield {"PYTHONPATH": folder, "FAREBOX_ENDPOINT": NOWHERE}


def site_packages(python: Path) -> Path:
    told = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return Path(told.stdout.strip())


def first_call(rounds: int) -> Iterator[Finding]:
    """In fresh processes. The SDK itself is warm: its own first call is not ours.

    By the clock, as the app waits, and by the CPU time of the app's thread, which other processes do not lengthen.
    """
    found: list[dict[str, float]] = []
    with installed_app_side() as installed:
        environ = {**os.environ, **installed, "FAREBOX_ENABLED": "1"}
        for _ in range(rounds):
            told = subprocess.run(
                [sys.executable, "-c", FIRST_CALL, json.dumps(ANSWER_JSON)],
                env=environ, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            found.append(json.loads(told.stdout))

    def middle(name: str, to: str | None = None) -> float:
        return statistics.median(one[name] / (one[to] if to else 1.0) for one in found)

    yield Finding("first call: the SDK's own, before ours", middle("cold") * 1e3, "ms")
    yield Finding("first call: the first one that is metered", middle("first") * 1e3, "ms")
    yield Finding("first call: against a later one", middle("first", "later"), "x", 3.0)
    yield Finding("first call: against a later one, CPU time", middle("first_cpu", "later_cpu"), "x", 3.0)
    worst = max(one["first"] / one["later"] for one in found)
    yield Finding("first call: against a later one, worst process", worst, "x")


def imports(rounds: int, *, with_peers: bool) -> Iterator[Finding]:
    """CPU time of whole processes. The ratio is of the medians; the least disturbed processes stand beside it."""
    cases = {**IMPORTS, **(PEER_IMPORTS if with_peers else {})}
    with installed_app_side() as installed:

        def importing(code: str, is_on: bool) -> Callable[[], float]:
            environ = {**installed, "FAREBOX_ENABLED": "1" if is_on else None}
            return lambda: process_us(Path(sys.executable), code, environ)

        costs = in_turns({name: importing(*case) for name, case in cases.items()}, rounds)
    yield Finding("import openai: unpatched", statistics.median(costs["plain"]) / 1e3, "ms")
    for name in list(cases)[1:]:
        yield Finding(f"import openai: {name} adds", added(costs, name, "plain") / 1e3, "ms")
    if with_peers:
        for ours, theirs in (("farebox", "openinference"), ("farebox, exporter", "openinference, exporter")):
            ratio = added(costs, ours, "plain") / added(costs, theirs, "plain")
            yield Finding(f"import openai: {ours} against {theirs}", ratio, "x", 0.75)
            least = least_added(costs, ours, "plain") / least_added(costs, theirs, "plain")
            yield Finding(f"import openai: {ours}, least disturbed", least, "x")


def process_us(python: Path, code: str, environ: Mapping[str, str | None]) -> float:
    """Run some code in a fresh interpreter; answers its microseconds of CPU time, the system's share included."""
    merged = {**os.environ, **{name: value for name, value in environ.items() if value is not None}}
    for name, value in environ.items():
        if value is None:
            merged.pop(name, None)
    process = subprocess.Popen([python, "-c", code], env=merged, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{code!r} ended with {process.returncode}")
    return (used.ru_utime + used.ru_stime) * 1e6


# How all of it is measured and shown.


def cpu_us(work: Callable[[], Any]) -> float:
    """The CPU time of this thread alone: what the app waits for, whatever else the machine does."""
    gc.collect()
    gc.disable()
    started = time.thread_time()
    work()
    took = time.thread_time() - started
    gc.enable()
    return took * 1e6


def in_turns(
    measures: Mapping[str, Callable[[], float]], rounds: int, after: Callable[[], object] = lambda: None
) -> dict[str, list[float]]:
    """Microseconds of each variant in each round, in an order that changes from round to round.

    Each measures itself. The first rounds warm up and are not kept.
    """
    found: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds + WARM_UP):
        names = list(measures)
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            took_us = measures[name]()
            if number >= WARM_UP:
                found[name].append(took_us)
        after()
    return found


def added(costs: Mapping[str, list[float]], name: str, to: str) -> float:
    """The median of what a variant costs more than another one of the same round."""
    return statistics.median(more - less for more, less in zip(costs[name], costs[to], strict=True))


def least_added(costs: Mapping[str, list[float]], name: str, to: str) -> float:
    """What a variant costs more than another one where both were disturbed least."""
    return min(costs[name]) - min(costs[to])


def show(findings: list[Finding]) -> None:
    print(f"openai {openai.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores\n")
    for finding in findings:
        target = "" if finding.target is None else f"at most {finding.target:g}"
        print(f"{finding.name:<64}{finding.measured:9.2f} {finding.unit:<4}{target:<14}{finding.verdict}".rstrip())


if __name__ == "__main__":
    sys.exit(main())
