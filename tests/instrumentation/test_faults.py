"""Every hook of ours is made to raise: the app sees of each kind of call what it sees of the unpatched SDK."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

import farebox
from farebox import (
    attribution,
    bodies,
    estimating,
    exporting,
    members,
    metering,
    openai_shape,
    recording,
    safety,
    spans,
    streams,
)
from tests.instrumentation.calls import DRIVERS, Seen
from tests.instrumentation.recorder import Recorder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

MAIN = ("anthropic", "openai")
EVERY = frozenset(DRIVERS)
#: Those with a driver that reads the body itself.
WITH_BODIES = frozenset({"anthropic", "bedrock", "openai"})


def fail(*args: Any, **kwargs: Any) -> Any:
    raise ZeroDivisionError("ours")


@dataclass(frozen=True)
class Hook:
    """A place of ours that is made to raise, the SDKs whose calls come by it, and the place that the log names.

    `is_repeated` marks what runs again for one call after it has failed, such as the end of a span. `hides` marks what
    leaves the extra chunk out of a stream for which we ask the usage: with that broken, nothing is asked for.
    """

    break_it: Callable[[pytest.MonkeyPatch, str], None]
    place: str
    reached_by: frozenset[str] = EVERY
    is_repeated: bool = False
    hides: bool = False


def in_sdk_file(name: str) -> Callable[[pytest.MonkeyPatch, str], None]:
    return lambda patch, sdk: patch.setattr(metering._sdks[sdk], name, fail)


def at(owner: Any, *names: str) -> Callable[[pytest.MonkeyPatch, str], None]:
    def break_it(patch: pytest.MonkeyPatch, _: str) -> None:
        for name in names:
            patch.setattr(owner, name, fail)

    return break_it


def in_requests(name: str) -> Callable[[pytest.MonkeyPatch, str], None]:
    """Break a callable that `read_request` hands over with the request."""

    def break_it(patch: pytest.MonkeyPatch, sdk: str) -> None:
        read_request = metering._sdks[sdk].read_request

        def read(*given: Any) -> Any:
            request = read_request(*given)
            if request is not None:
                setattr(request, name, fail)
            return request

        patch.setattr(metering._sdks[sdk], "read_request", read)

    return break_it


def of_readers(name: str) -> Callable[[pytest.MonkeyPatch, str], None]:
    def break_it(patch: pytest.MonkeyPatch, _: str) -> None:
        for kind in (bodies.Reader, bodies.JsonReader, bodies.LinesReader, bodies.EventReader):
            patch.setattr(kind, name, fail)

    return break_it


def when_estimating(name: str) -> Callable[[pytest.MonkeyPatch, str], None]:
    def break_it(patch: pytest.MonkeyPatch, _: str) -> None:
        patch.setenv("FAREBOX_ESTIMATE_TOKENS", "1")
        metering.forget_settings()
        patch.setattr(estimating.Estimate, name, fail)

    return break_it


HOOKS: Mapping[str, Hook] = {
    "read the request": Hook(in_sdk_file("read_request"), "read_request"),
    "read the answer": Hook(in_sdk_file("read_response"), "read_response"),
    "read a chunk": Hook(in_sdk_file("read_chunk"), "read_chunk"),
    "say who pays": Hook(at(attribution, "current"), "read_request"),
    "make the attributes": Hook(at(spans, "base_attributes"), "read_request"),
    "open the span": Hook(at(spans, "open_span"), "read_request"),
    "find the tracer": Hook(at(exporting, "tracer"), "read_request"),
    "make an id": Hook(at(recording, "_new_id"), "read_request"),
    "number the span": Hook(at(exporting, "next_sequence"), "end"),
    "end the span": Hook(at(spans.CallSpan, "end"), "end", is_repeated=True),
    "hand the span over": Hook(at(recording.SpanRecord, "end"), "end"),
    "restart a lazy span": Hook(at(spans.CallSpan, "restart"), "begin", frozenset({"cohere", "ollama"})),
    "retry without what we asked for": Hook(in_requests("retry"), "retry"),
    "remember who refuses": Hook(in_requests("retried"), "retry", frozenset({"openai"})),
    "hide a chunk": Hook(in_requests("is_hidden"), "read_chunk", hides=True),
    "look for a body": Hook(at(bodies, "body_of"), "read_response", hides=True),
    "watch a body": Hook(at(bodies, "watch"), "read_response", WITH_BODIES - {"bedrock"}, hides=True),
    "read along": Hook(of_readers("_read"), "read_body", WITH_BODIES, hides=True),
    "read what was read along": Hook(of_readers("_read_whole"), "read_body", WITH_BODIES),
    "meet a stream": Hook(at(streams, "met"), "read_response", EVERY - {"bedrock"}, hides=True),
    "put a proxy": Hook(at(streams, "proxy"), "read_response", hides=True),
    "watch a close": Hook(at(bodies, "watch_close"), "watch_close"),
    "meter a member": Hook(at(members, "meter"), "read_response", frozenset({"bedrock"})),
    "begin an estimate": Hook(when_estimating("__init__"), "read_request"),
    "take an estimate": Hook(when_estimating("take"), "read_response"),
    "end an estimate": Hook(when_estimating("attributes"), "end", is_repeated=True),
}


@pytest.fixture(scope="module")
def unpatched() -> Iterator[Callable[[str], tuple[str, dict[str, Seen]]]]:
    """Start each fake once, and take once what the app sees of the unpatched SDK."""
    gc.collect()
    gc.freeze()  # a collection that goes through the modules of all SDKs takes 0.2 s
    with contextlib.ExitStack() as running:
        known: dict[str, tuple[str, dict[str, Seen]]] = {}

        def taken(sdk: str) -> tuple[str, dict[str, Seen]]:
            if sdk not in known:
                seen: dict[str, Seen] = {}
                url = running.enter_context(DRIVERS[sdk].served())
                with farebox.suppress():
                    DRIVERS[sdk].walk(url, seen.__setitem__)
                known[sdk] = url, seen
            return known[sdk]

        yield taken
    gc.unfreeze()


SDKS = [pytest.param(sdk, marks=[] if sdk in MAIN else pytest.mark.slow) for sdk in sorted(DRIVERS)]


@pytest.mark.parametrize("sdk", SDKS)
def test_metering_changes_nothing_that_the_app_sees(
    recorder: Recorder,
    unpatched: Callable[[str], tuple[str, dict[str, Seen]]],
    monkeypatch: pytest.MonkeyPatch,
    sdk: str,
) -> None:
    url, expected = unpatched(sdk)
    monkeypatch.setattr(openai_shape, "_refusing", set())
    seen: dict[str, Seen] = {}

    DRIVERS[sdk].walk(url, seen.__setitem__)

    assert seen == expected
    assert not safety.faults
    assert len(recorder.wait_for(len(seen))) == len(seen)


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("hook", HOOKS)
def test_a_fault_of_ours_changes_nothing_that_the_app_sees(
    recorder: Recorder,
    unpatched: Callable[[str], tuple[str, dict[str, Seen]]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    hook: str,
    sdk: str,
) -> None:
    broken = HOOKS[hook]
    url, expected = unpatched(sdk)
    gc.collect()  # streams of the last test, which its log records have held by their tracebacks
    monkeypatch.setattr(openai_shape, "_refusing", set())
    monkeypatch.setenv("FAREBOX_INJECT_STREAM_USAGE", "0" if broken.hides else "1")
    metering.forget_settings()
    broken.break_it(monkeypatch, sdk)
    reached: set[str] = set()

    def look(kind: str, seen: Seen) -> None:
        gc.collect()
        assert seen == expected[kind], kind
        logged = [record for record in caplog.records if record.name == "farebox" and record.levelno == logging.WARNING]
        for place, count in safety.faults.items():
            assert count == 1 or broken.is_repeated, (kind, place, count)
        assert len(logged) == len(safety.faults) <= 1, (kind, dict(safety.faults))
        reached.update(safety.faults)
        safety.faults.clear()
        caplog.clear()

    DRIVERS[sdk].walk(url, look)

    monkeypatch.undo()
    assert bool(reached) == (sdk in broken.reached_by), reached
    assert {place.rpartition(".")[2] for place in reached} <= {broken.place, "read_chunk", "read_body"}
