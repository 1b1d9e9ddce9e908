"""Every hook of ours is made to raise: the app sees of each kind of call what it sees of the unpatched SDK."""

from __future__ import annotations

import contextlib
import gc
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

import farebox
from farebox import (
    attribution,
    bodies,
    config,
    estimating,
    exporting,
    members,
    metering,
    openai_shape,
    patching,
    recording,
    safety,
    spans,
    streams,
)
from farebox.sending import Reply
from tests.fakes.server import FakeServer
from tests.instrumentation import processes
from tests.instrumentation.calls import DRIVERS, Seen
from tests.instrumentation.recorder import Recorder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

#: A busy machine's share; a buffered stream or a second try would take longer than that only by accident.
LATE_S = 5.0
EVERY = frozenset(DRIVERS)
#: Runs these tests in an environment of its own (`sdks/litellm_faults.py`).
APART = frozenset({"litellm"})
#: Their methods call one another, and the openai package: one call comes by a hook once in each.
AROUND = frozenset({"litellm"})
#: Those with a driver that reads the body itself.
WITH_BODIES = frozenset({"anthropic", "bedrock", "openai"})
#: Asks the openai package for a raw response, and has it parsed.
RAW_INSIDE = frozenset({"litellm"})


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


def in_requests(name: str, *, in_all: bool = False) -> Callable[[pytest.MonkeyPatch, str], None]:
    """Break a callable that `read_request` hands over with the request, or hand over a broken one `in_all` of them."""

    def break_it(patch: pytest.MonkeyPatch, sdk: str) -> None:
        read_request = metering._sdks[sdk].read_request

        def read(*given: Any) -> Any:
            request = read_request(*given)
            if request is not None and (in_all or getattr(request, name) is not None):
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
    "ask whether it is suppressed": Hook(at(attribution, "is_suppressed"), "read_request"),
    "say who pays": Hook(at(attribution, "current"), "read_request"),
    "make the attributes": Hook(at(spans, "base_attributes"), "read_request"),
    "open the span": Hook(at(spans, "open_span"), "read_request"),
    "find the tracer": Hook(at(exporting, "tracer"), "read_request"),
    "make an id": Hook(at(recording, "_new_id"), "read_request"),
    "number the span": Hook(at(exporting, "next_sequence"), "end"),
    "end the span": Hook(at(spans.CallSpan, "end"), "end", is_repeated=True),
    "hand the span over": Hook(at(recording.SpanRecord, "end"), "end"),
    "restart a lazy span": Hook(at(spans.CallSpan, "restart"), "begin", frozenset({"cohere", "ollama"})),
    "retry without what we asked for": Hook(in_requests("retry"), "retry", frozenset({"openai"})),
    "remember who refuses": Hook(in_requests("retried"), "retry", frozenset({"openai"})),
    "hide a chunk": Hook(in_requests("is_hidden", in_all=True), "read_chunk", hides=True),
    "look for a body": Hook(at(bodies, "body_of"), "read_response", hides=True),
    "watch a body": Hook(at(bodies, "watch"), "read_response", RAW_INSIDE | {"anthropic", "openai"}, hides=True),
    "read along": Hook(of_readers("_read"), "read_body", WITH_BODIES | RAW_INSIDE, hides=True),
    "read what was read along": Hook(of_readers("_read_whole"), "read_body", WITH_BODIES),
    "meet a stream": Hook(at(streams, "met"), "read_response", EVERY - {"bedrock"}, hides=True),
    "put a proxy": Hook(at(streams, "proxy"), "read_response", hides=True),
    "watch a close": Hook(at(bodies, "watch_close"), "watch_close"),
    "meter a member": Hook(at(members, "meter"), "read_response", frozenset({"bedrock"})),
    "begin an estimate": Hook(when_estimating("__init__"), "read_request"),
    "take an estimate": Hook(when_estimating("take"), "read_response"),
    "end an estimate": Hook(when_estimating("attributes"), "end", is_repeated=True),
}


@dataclass(frozen=True)
class Expected:
    """What the app sees of the unpatched SDK: results and exceptions, its requests, and its time."""

    fake: FakeServer
    seen: dict[str, Seen]
    requests: dict[str, int]
    took_s: dict[str, float]


class Look:
    """Notes of each kind of call what the app sees; `each` may look at more."""

    def __init__(self, fake: FakeServer, each: Callable[[str], None] = lambda _: None) -> None:
        self.expected = Expected(fake, {}, {}, {})
        self._each = each
        self._began_s = time.monotonic()
        fake.served.clear()

    def __call__(self, kind: str, seen: Seen) -> None:
        noted = self.expected
        noted.took_s[kind] = time.monotonic() - self._began_s
        noted.seen[kind] = seen
        noted.requests[kind] = len(noted.fake.served)
        gc.collect()
        self._each(kind)
        noted.fake.served.clear()
        self._began_s = time.monotonic()


@pytest.fixture(scope="module")
def unpatched() -> Iterator[Callable[[str], Expected]]:
    """Start each fake once, and take once what the app sees of the unpatched SDK."""
    gc.collect()
    gc.freeze()  # a collection that goes through the modules of all SDKs takes 0.2 s
    with contextlib.ExitStack() as running:
        known: dict[str, Expected] = {}

        def taken(sdk: str) -> Expected:
            if sdk not in known:
                look = Look(running.enter_context(DRIVERS[sdk].served()))
                with farebox.suppress():
                    DRIVERS[sdk].walk(look.expected.fake.url, look)
                known[sdk] = look.expected
                gc.collect()
                gc.freeze()  # what this SDK has imported by now
            return known[sdk]

        yield taken
    gc.unfreeze()


def assert_the_same(found: Expected, expected: Expected) -> None:
    assert found.seen == expected.seen
    # What we add to a request is the one thing that may be refused, and is then sent again without.
    assert {kind: count for kind, count in found.requests.items() if kind != "refused"} == {
        kind: count for kind, count in expected.requests.items() if kind != "refused"
    }
    late = {kind: took_s for kind, took_s in found.took_s.items() if took_s > expected.took_s[kind] + LATE_S}
    assert not late, expected.took_s


@pytest.mark.parametrize("sdk", sorted(EVERY - APART))
def test_metering_changes_nothing_that_the_app_sees(
    recorder: Recorder, unpatched: Callable[[str], Expected], monkeypatch: pytest.MonkeyPatch, sdk: str
) -> None:
    expected = unpatched(sdk)
    monkeypatch.setattr(openai_shape, "_refusing", set())
    look = Look(expected.fake)

    DRIVERS[sdk].walk(expected.fake.url, look)

    assert_the_same(look.expected, expected)
    assert not safety.faults
    assert len(recorder.wait_for(len(expected.seen))) == len(expected.seen)


@pytest.mark.parametrize("sdk", sorted(EVERY - APART))
@pytest.mark.parametrize("hook", HOOKS)
def test_a_fault_of_ours_changes_nothing_that_the_app_sees(
    recorder: Recorder,
    unpatched: Callable[[str], Expected],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    hook: str,
    sdk: str,
) -> None:
    broken = HOOKS[hook]
    expected = unpatched(sdk)
    gc.collect()  # streams of the last test, which its log records have held by their tracebacks
    monkeypatch.setattr(openai_shape, "_refusing", set())
    monkeypatch.setenv("FAREBOX_INJECT_STREAM_USAGE", "0" if broken.hides else "1")
    metering.forget_settings()
    broken.break_it(monkeypatch, sdk)
    reached: set[str] = set()

    def count(kind: str) -> None:
        logged = [record for record in caplog.records if record.name == "farebox" and record.levelno == logging.WARNING]
        for place, faults in safety.faults.items():
            assert faults == 1 or broken.is_repeated or sdk in AROUND, (kind, place, faults)
        most = 2 if sdk in AROUND else 1
        assert len(logged) == len(safety.faults) <= most, (kind, dict(safety.faults))
        reached.update(safety.faults)
        safety.faults.clear()
        caplog.clear()

    look = Look(expected.fake, count)
    DRIVERS[sdk].walk(expected.fake.url, look)

    monkeypatch.undo()
    assert_the_same(look.expected, expected)
    assert bool(reached) == (sdk in broken.reached_by), reached
    assert {place.rpartition(".")[2] for place in reached} <= {broken.place, "read_chunk", "read_body"}


#: What runs when metering is switched on, with an SDK imported before or after.
PATCHING: Mapping[str, tuple[Any, str]] = {
    "read the settings": (config, "read"),
    "ask whether an SDK is left alone": (metering, "switched_off_by"),
    "take an SDK file into service": (metering, "know"),
    "begin the pipeline": (exporting, "prepare"),
    "look at a module": (patching, "_patch_module"),
    "find a method": (patching, "_find_owner"),
    "wrap a method": (metering, "wrapped"),
    "put the wrapper": (patching, "_wrap"),
}


@pytest.mark.parametrize("place", PATCHING)
def test_a_fault_in_patching_leaves_an_imported_sdk_as_it_was(
    unpatched: Callable[[str], Expected], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    expected = unpatched("openai")
    kind = openai._base_client.SyncAPIClient
    before = vars(kind)["request"]
    monkeypatch.setenv("FAREBOX_INSTRUMENT", "openai")
    metering.forget_settings()
    monkeypatch.setattr(*PATCHING[place], fail)

    assert farebox.instrument()
    during = vars(kind)["request"]
    look = Look(expected.fake)
    DRIVERS["openai"].walk(expected.fake.url, look)
    monkeypatch.undo()
    farebox.uninstrument()

    assert during is before
    assert vars(kind)["request"] is before
    assert_the_same(look.expected, expected)
    assert safety.faults
    assert {name.partition(".")[0] for name in safety.faults} == {"patching"}
    assert len([record for record in caplog.records if record.name == "farebox"]) == len(safety.faults)


IMPORT = """
    import importlib, logging, sys
    from farebox import config, exporting, metering, patching, safety, startup

    def fail(*args, **kwargs):
        raise ZeroDivisionError("ours")

    startup.uninstrument()
    for owner, name in %r:
        module = importlib.import_module(owner)
        original = getattr(module, name)
        setattr(module, name, fail)
        assert startup.instrument()
        import ollama
        print(owner, name, ollama.Client.__name__, type(vars(ollama.Client)["_request"]).__name__, sep=",")
        setattr(module, name, original)
        startup.uninstrument()
        for known in [known for known in sys.modules if known.partition(".")[0] == "ollama"]:
            del sys.modules[known]
    print(sorted(safety.faults))
"""


def test_a_fault_in_patching_breaks_no_import(tmp_path: Path) -> None:
    places = [(owner.__name__, name) for owner, name in PATCHING.values()] + [("farebox.patching", "_load")]

    done = processes.run(IMPORT % places, processes.environment(tmp_path))

    assert done.returncode == 0, done.stderr
    *lines, faults = done.stdout.splitlines()
    assert lines == [f"{owner},{name},Client,function" for owner, name in places]
    assert faults == "['patching.load', 'patching.patch', 'patching.wrap']"
    assert done.stderr.count("farebox: metering failed in ") == 3


class BrokenSender:
    """A sender that raises; `sent` counts how often it was asked."""

    def __init__(self) -> None:
        self.sent = 0

    def send(self, payload: bytes, timeout_s: float) -> Reply:
        self.sent += 1
        raise ZeroDivisionError("ours")

    def close(self) -> None:
        raise ZeroDivisionError("ours")


@pytest.mark.parametrize(
    ("owner", "name", "place"),
    [
        (exporting.Exporter, "_wait", "exporting.thread"),
        (exporting.Exporter, "_drain", "exporting.thread"),
        (exporting.Exporter, "_send", "exporting.thread"),
        (exporting, "_sdk_span", "exporting.encode"),
        (None, "", "exporting.send"),
    ],
    ids=["wait", "drain", "send", "encode", "the sender"],
)
def test_a_fault_in_exporting_is_not_felt_by_the_app(
    unpatched: Callable[[str], Expected], monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, place: str
) -> None:
    expected = unpatched("openai")
    monkeypatch.setattr(openai_shape, "_refusing", set())
    monkeypatch.setattr(exporting, "BATCH_DELAY_S", 0.05)
    exporting.start(config.read(), BrokenSender())
    assert farebox.instrument()
    if owner is not None:
        monkeypatch.setattr(owner, name, fail)
    look = Look(expected.fake)
    DRIVERS["openai"].walk(expected.fake.url, look)
    deadline_s = time.monotonic() + 30
    while not safety.faults[place] and time.monotonic() < deadline_s:
        time.sleep(0.02)
    farebox.uninstrument()

    exporting.flush_at_exit()

    assert_the_same(look.expected, expected)
    assert safety.faults[place] >= 1
    assert {found.partition(".")[0] for found in safety.faults} == {"exporting"}
