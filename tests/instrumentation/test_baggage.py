"""Two services over HTTP: who pays is said in the one that is called first, and stands on the calls of the other.

The front service is a process of its own without any LLM SDK; the back service calls one, in this process. Between them
is what every instrumented app has: the baggage propagator of OpenTelemetry, in the app's own hands.
"""

from __future__ import annotations

import asyncio
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent
from typing import Any

import openai
import pytest
from opentelemetry import baggage, context, propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator

import farebox
from farebox import attribution, config, exporting, safety
from tests.fakes.provider import FakeProvider
from tests.instrumentation import processes
from tests.instrumentation.recorder import Recorder

W3C = W3CBaggagePropagator()
FRONT = """
    import sys, urllib.request
    import farebox
    from opentelemetry.baggage.propagation import W3CBaggagePropagator

    def ask(**headers):
        W3CBaggagePropagator().inject(headers)
        request = urllib.request.Request(sys.argv[1], headers=headers)
        return urllib.request.urlopen(request, timeout=20).read()
"""


class Back:
    """The back service: makes one metered call for each request, in the context that the request's headers say."""

    def __init__(self, provider: FakeProvider) -> None:
        self.headers: list[str | None] = []
        client = openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k")
        headers = self.headers

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers.append(self.headers.get("baggage"))
                token = context.attach(W3C.extract({name.lower(): value for name, value in self.headers.items()}))
                try:
                    client.embeddings.create(model="text-embedding-3-small", input="x")
                finally:
                    context.detach(token)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def ask(self, **headers: str) -> None:
        urllib.request.urlopen(urllib.request.Request(self.url, headers=headers), timeout=20).close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture
def allowed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What FAREBOX_BAGGAGE says in the back service, set before it is metered; empty for a variable that is absent."""
    names = str(getattr(request, "param", "project,user,service"))
    if names:
        monkeypatch.setenv("FAREBOX_BAGGAGE", names)
    return names


@pytest.fixture
def metered(allowed: str, recorder: Recorder) -> Iterator[Recorder]:
    yield recorder
    attribution.set_defaults(config.Settings())


@pytest.fixture
def back(metered: Recorder, provider: FakeProvider) -> Iterator[Back]:
    service = Back(provider)
    yield service
    service.close()


@contextmanager
def carrying(*names: str) -> Iterator[None]:
    """This process is metered, and lets these names travel."""
    farebox.instrument()
    attribution.set_defaults(config.Settings(baggage=frozenset(names)))
    try:
        yield
    finally:
        attribution.set_defaults(config.Settings())
        farebox.uninstrument()


def front(back: Back, tmp_path: Path, code: str, **variables: str) -> None:
    """Run a front service to its end."""
    done = processes.run(
        f"import sys; sys.argv.append({back.url!r})\n" + dedent(FRONT) + dedent(code),
        processes.environment(tmp_path / "front", **variables),
    )
    assert (done.returncode, done.stderr) == (0, "")


def payer(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Who pays, by what a span says."""
    return {name: value for name, value in attributes.items() if name in attribution.NAMES.values()}


def members() -> dict[str, Any]:
    """What the app's propagator would write into a request that is made here."""
    carrier: dict[str, str] = {}
    W3C.inject(carrier)
    return dict(baggage.get_all(W3C.extract(carrier, context.Context())))


def test_who_pays_is_said_in_one_service_and_stands_on_the_calls_of_the_other(
    back: Back, metered: Recorder, tmp_path: Path
) -> None:
    code = """
        with farebox.attribute(user="Ada Lovelace, né 50%; 香港", project="tram", session="s1", tags=["night"]):
            ask()
    """

    front(back, tmp_path, code, FAREBOX_BAGGAGE="user,project")

    assert payer(metered.one().attributes) == {
        "user.id": "Ada Lovelace, né 50%; 香港",
        "farebox.project": "tram",
    }
    assert "farebox.tags" not in metered.one().attributes
    assert "s1" not in str(back.headers)


def test_coroutines_threads_and_decorators_of_the_front_service_carry_it_too(
    back: Back, metered: Recorder, tmp_path: Path
) -> None:
    code = """
        import asyncio

        async def rider(name):
            async with farebox.attribute(user=name):
                await asyncio.sleep(0.01)
                await asyncio.to_thread(ask)

        async def riders():
            await asyncio.gather(rider("ada"), rider("bob"))

        @farebox.attribute(user="cleo")
        def decorated():
            ask()

        asyncio.run(riders())
        decorated()
        ask()
    """

    front(back, tmp_path, code, FAREBOX_BAGGAGE="user")

    assert sorted(str(payer(span.attributes).get("user.id")) for span in metered.spans()) == [
        "None", "ada", "bob", "cleo",
    ]  # fmt: skip


def test_nothing_leaves_a_service_that_does_not_allow_it(back: Back, metered: Recorder, tmp_path: Path) -> None:
    front(back, tmp_path, "with farebox.attribute(user='ada'): ask()")

    assert back.headers == [None]
    assert payer(metered.one().attributes) == {}


def test_nothing_leaves_a_process_that_is_not_metered(back: Back, metered: Recorder, tmp_path: Path) -> None:
    front(back, tmp_path, "with farebox.attribute(user='ada'): ask()", FAREBOX_BAGGAGE="user", FAREBOX_ENABLED="0")

    assert back.headers == [None]


@pytest.mark.parametrize("allowed", [""], indirect=True, ids=["absent"])
def test_what_comes_in_is_ignored_unless_it_is_allowed(back: Back, metered: Recorder) -> None:
    back.ask(baggage="user.id=ada,farebox.project=tram")

    assert payer(metered.one().attributes) == {}


@pytest.mark.parametrize("allowed", ["project"], indirect=True)
def test_only_the_allowed_names_come_in(back: Back, metered: Recorder) -> None:
    back.ask(baggage="user.id=ada,farebox.project=tram,farebox.service=web,project=bus,farebox.outcome=error")

    assert payer(metered.one().attributes) == {"farebox.project": "tram"}
    assert "farebox.outcome" not in metered.one().attributes


@pytest.mark.parametrize("allowed", ["organization,org,project"], indirect=True, ids=["organization"])
def test_no_baggage_names_the_organization(back: Back, metered: Recorder) -> None:
    back.ask(baggage="organization=evil,farebox.organization=evil,org=evil,farebox.org=evil,farebox.project=tram")

    assert payer(metered.one().attributes) == {"farebox.project": "tram"}
    assert "evil" not in str(metered.one())
    assert safety.faults["config.FAREBOX_BAGGAGE.organization"] == 1


def test_a_block_outweighs_the_caller_and_the_caller_the_defaults(recorder: Recorder) -> None:
    attribution.set_defaults(
        config.Settings(service="back", project="depot", user="nobody", baggage=frozenset({"service", "user"}))
    )
    token = context.attach(W3C.extract({"baggage": "farebox.service=front,user.id=ada"}))
    try:
        with farebox.attribute(user="bob"):
            assert attribution.current() == {"farebox.service": "front", "farebox.project": "depot", "user.id": "bob"}
    finally:
        context.detach(token)
        attribution.set_defaults(config.Settings())


@pytest.mark.parametrize(
    "value",
    ["", "x" * 257, "two\nlines", "nul\0", 7, None, ["ada"]],
    ids=["empty", "long", "lines", "nul", "number", "none", "list"],
)
def test_what_is_no_short_printable_text_does_not_come_in(value: Any) -> None:
    with carrying("user"):
        token = context.attach(baggage.set_baggage("user.id", value))
        try:
            assert attribution.current() == {}
        finally:
            context.detach(token)

    assert not safety.faults


def test_the_longest_text_travels_and_a_longer_one_does_not() -> None:
    with carrying("user", "project"), farebox.attribute(user="é" * 256, project="x" * 257):
        assert members() == {"user.id": "é" * 256}
        assert attribution.current() == {"user.id": "é" * 256, "farebox.project": "x" * 257}

    assert safety.faults["baggage.farebox.project"] == 1


def test_a_text_too_long_to_travel_does_not_leave_the_outer_one_in_its_place() -> None:
    with carrying("user"), farebox.attribute(user="ada"), farebox.attribute(user="x" * 300):
        assert members() == {}


def test_the_baggage_of_the_app_stays_and_blocks_end_with_it() -> None:
    with carrying("user"):
        token = context.attach(baggage.set_baggage("flag", "blue"))
        try:
            with farebox.attribute(user="ada"), farebox.attribute(user="bob", project="tram"):
                assert members() == {"flag": "blue", "user.id": "bob"}
            assert members() == {"flag": "blue"}
        finally:
            context.detach(token)
        assert members() == {}


def test_tasks_and_copied_contexts_carry_it_and_plain_threads_do_not() -> None:
    async def rider(name: str) -> Any:
        async with farebox.attribute(user=name):
            await asyncio.sleep(0.01)
            return members(), await asyncio.to_thread(members)

    async def riders() -> Any:
        return await asyncio.gather(rider("ada"), rider("bob"))

    with carrying("user"):
        both = asyncio.run(riders())
        with farebox.attribute(user="cleo"), ThreadPoolExecutor(1) as pool:
            plain = pool.submit(members).result(10)

    assert both == [({"user.id": name}, {"user.id": name}) for name in ("ada", "bob")]
    assert plain == {}


def test_a_generator_closed_by_another_task_leaves_no_error_and_no_name(caplog: pytest.LogCaptureFixture) -> None:
    async def pieces() -> Any:
        with farebox.attribute(user="ada"):
            yield members()
            yield members()

    async def run() -> Any:
        generator = pieces()
        first = await asyncio.create_task(anext(generator))
        await asyncio.create_task(generator.aclose())
        return first, members()

    with carrying("user"):
        assert asyncio.run(run()) == ({"user.id": "ada"}, {})

    assert caplog.text == ""


def test_the_consumer_of_a_decorated_generator_carries_nothing() -> None:
    @farebox.attribute(user="ada")
    def generator() -> Iterator[Any]:
        yield members()

    with carrying("user"):
        seen = [(inside, members()) for inside in generator()]

    assert seen == [({"user.id": "ada"}, {})]


def test_the_propagator_of_the_app_is_left_as_it_is(metered: Recorder) -> None:
    before = propagate.get_global_textmap()
    with farebox.attribute(user="ada"):
        pass

    assert propagate.get_global_textmap() is before
    assert exporting.flush(5)


def test_a_fault_of_the_baggage_is_no_fault_of_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken")

    with carrying("user"):
        monkeypatch.setattr(baggage, "get_all", broken)
        monkeypatch.setattr(baggage, "set_baggage", broken)
        with farebox.attribute(user="ada"):
            assert attribution.current() == {"user.id": "ada"}

    assert safety.faults == {"baggage.attach": 1, "baggage.read": 1}
