"""What metering adds to a call and to a chunk, as ratios to a floor measured in the same process.

Run: .venv/bin/python benchmarks/instrumentation.py

The floor of a call is one wrapt call and one span of the OpenTelemetry SDK with 15 attributes set at once. Both run
over a canned answer, in turn, on thread CPU time; only the ratios carry over to other machines.
"""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ["FAREBOX_BUFFER_DIR"] = tempfile.mkdtemp(prefix="farebox-benchmark-")

import openai
import wrapt
from openai._models import FinalRequestOptions
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

import farebox
from farebox import config, exporting, metering
from farebox.sending import Reply, Verdict

ROUNDS = 15
CALLS = 400
CHUNKS = 1000

ANSWER = ChatCompletion.model_validate(
    {
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
)
CHUNK = ChatCompletionChunk.model_validate(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}],
    }
)
OPTIONS = {"method": "post", "url": "/chat/completions", "json_data": {"model": "gpt-4o", "messages": []}}


class Nowhere:
    """A sender that takes all, so that no socket is measured."""

    def send(self, payload: bytes, timeout_s: float) -> Reply:
        return Reply(Verdict.ACCEPTED)

    def close(self) -> None:
        pass


class Canned:
    """An SDK client whose request takes no time."""

    base_url = openai.OpenAI(api_key="k").base_url

    def request(self, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        return Chunks() if stream else ANSWER


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


def cpu_us(work: Callable[[], None]) -> float:
    gc.collect()
    gc.disable()
    started = time.thread_time()
    work()
    took = time.thread_time() - started
    gc.enable()
    return took * 1e6


def floor_of_a_call() -> Callable[[], Any]:
    tracer = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False).get_tracer("floor")
    attributes = {f"gen_ai.attribute.{number}": number for number in range(15)}

    def meter(inner: Any, owner: Any, args: Any, kwargs: Any) -> Any:
        span = tracer.start_span("chat gpt-4o")
        result = inner(*args, **kwargs)
        span.set_attributes(attributes)
        span.end()
        return result

    class Floor(Canned):
        request = wrapt.FunctionWrapper(Canned.request, meter)

    return Floor().request


def metered_call() -> Callable[..., Any]:
    wrapper, _ = metering.wrapped("openai", Canned.request)
    return type("Metered", (Canned,), {"request": wrapper})().request  # type: ignore[no-any-return]


def repeat(request: Callable[..., Any]) -> Callable[[], None]:
    options = FinalRequestOptions.construct(**OPTIONS)  # type: ignore[arg-type]

    def work() -> None:
        for _ in range(CALLS):
            request(object, options)

    return work


def read(request: Callable[..., Any]) -> Callable[[], None]:
    options = FinalRequestOptions.construct(**{**OPTIONS, "json_data": {**OPTIONS["json_data"], "stream": True}})  # type: ignore[arg-type,dict-item]

    def work() -> None:
        for _ in request(object, options, stream=True):
            pass

    return work


def per_call() -> None:
    variants = {
        "plain": repeat(Canned().request),
        "floor": repeat(floor_of_a_call()),
        "farebox": repeat(metered_call()),
    }
    costs = interleaved(variants, CALLS)
    floor, added = costs["floor"] - costs["plain"], costs["farebox"] - costs["plain"]
    print(f"call:   floor {floor:6.2f} us   farebox {added:6.2f} us   ratio {added / floor:4.2f} (target 2.00)")


def per_chunk() -> None:
    costs = interleaved({"plain": read(Canned().request), "farebox": read(metered_call())}, CHUNKS)
    print(f"chunk:  added {costs['farebox'] - costs['plain']:5.2f} us (target 1.00)")


def interleaved(variants: dict[str, Callable[[], None]], units: int) -> dict[str, float]:
    """Median microseconds a unit of each variant, measured in turns."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(ROUNDS + 2):
        for name, work in variants.items():
            cost = cpu_us(work) / units
            if number >= 2:
                found[name].append(cost)
        exporting.flush()
    return {name: statistics.median(costs) for name, costs in found.items()}


def start_up() -> None:
    """Wall time of an interpreter, and of one that imports an SDK; alternating."""
    cases = {
        "python -c pass, off": ("pass", "0"),
        "python -c pass, on": ("pass", "1"),
        "import openai, off": ("import openai", "0"),
        "import openai, on": ("import openai", "1"),
    }
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(15):
        for name, (code, enabled) in cases.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], env={**os.environ, "FAREBOX_ENABLED": enabled}, check=True)
            found[name].append((time.perf_counter() - started) * 1e3)
    for name, costs in found.items():
        print(f"{name:<22} {min(costs):7.2f} ms (best), {statistics.median(costs):7.2f} ms (median)")


def aborted_streams() -> None:
    import tracemalloc

    request = metered_call()
    options = FinalRequestOptions.construct(**OPTIONS)  # type: ignore[arg-type]

    def abort(times: int) -> None:
        for _ in range(times):
            next(request(object, options, stream=True))
        exporting.flush()
        gc.collect()

    abort(1000)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    abort(10_000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"memory after 10,000 aborted streams: {(after - before) / 1024:+.1f} KiB")


def main() -> None:
    exporting.start(config.read(), Nowhere())
    farebox.instrument()
    per_call()
    per_chunk()
    aborted_streams()
    start_up()


if __name__ == "__main__":
    main()
