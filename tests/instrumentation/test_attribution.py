"""Who pays follows the code: blocks, decorators, threads, tasks and generators."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import farebox
from farebox import attribution, config, safety
from tests.fakes.provider import FakeProvider
from tests.instrumentation.recorder import Recorder


def current() -> dict[str, Any]:
    return dict(attribution.current())


def test_a_block_names_the_payer_and_ends_with_it() -> None:
    with farebox.attribute(user="ada", user_email="ada@example.org", project="tram", session="s1"):
        inside = current()

    assert inside == {
        "user.id": "ada",
        "user.email": "ada@example.org",
        "farebox.project": "tram",
        "session.id": "s1",
    }
    assert current() == {}


def test_every_member_has_its_attribute() -> None:
    with farebox.attribute(
        user="u", user_email="e", project="p", service="s", action="a", category="c", task_type="tt", task_id="ti",
        content_type="ct", content_ref="cr", session="se", model_config="mc", upstream="up", tags=["t"],
        metadata={"k": 1},
    ):  # fmt: skip
        assert current() == {
            "user.id": "u",
            "user.email": "e",
            "session.id": "se",
            "farebox.project": "p",
            "farebox.service": "s",
            "farebox.action": "a",
            "farebox.category": "c",
            "farebox.task_type": "tt",
            "farebox.task_id": "ti",
            "farebox.content_type": "ct",
            "farebox.content_ref": "cr",
            "farebox.model_config": "mc",
            "farebox.upstream": "up",
            "farebox.tags": ["t"],
            "farebox.metadata": '{"k": 1}',
        }


def test_inner_blocks_replace_names_append_tags_and_merge_metadata() -> None:
    outer = farebox.attribute(user="ada", project="tram", tags=["a", "b"], metadata={"x": 1, "y": 1})
    inner = farebox.attribute(user="bob", tags=["b", "c"], metadata={"y": 2})
    with outer, inner:
        inside = current()

    assert inside["user.id"] == "bob"
    assert inside["farebox.project"] == "tram"
    assert inside["farebox.tags"] == ["a", "b", "c"]
    assert json.loads(inside["farebox.metadata"]) == {"x": 1, "y": 2}


def test_an_exception_ends_the_block_and_passes() -> None:
    with pytest.raises(ZeroDivisionError), farebox.attribute(user="ada"):
        _ = 1 / 0

    assert current() == {}


def test_the_defaults_of_the_environment_give_way_to_blocks() -> None:
    attribution.set_defaults(config.Settings(service="web", project="tram", user="nobody", tags=("env",)))
    try:
        with farebox.attribute(user="ada", tags=["block"]):
            assert current() == {
                "farebox.service": "web",
                "farebox.project": "tram",
                "user.id": "ada",
                "farebox.tags": ["env", "block"],
            }
    finally:
        attribution.set_defaults(config.Settings())


def test_a_decorator_serves_functions_coroutines_and_generators() -> None:
    @farebox.attribute(user="ada")
    def plain() -> str:
        return str(current()["user.id"])

    @farebox.attribute(user="ada")
    async def coroutine() -> str:
        await asyncio.sleep(0)
        return str(current()["user.id"])

    @farebox.attribute(user="ada")
    def generator() -> Iterator[str]:
        yield str(current()["user.id"])
        yield str(current()["user.id"])

    @farebox.attribute(user="ada")
    async def async_generator() -> AsyncIterator[str]:
        yield str(current()["user.id"])
        yield str(current()["user.id"])

    async def collect() -> list[str]:
        return [value async for value in async_generator()]

    assert plain() == "ada"
    assert asyncio.run(coroutine()) == "ada"
    assert list(generator()) == ["ada", "ada"]
    assert asyncio.run(collect()) == ["ada", "ada"]
    assert current() == {}


def test_the_consumer_of_a_decorated_generator_does_not_pay_for_it() -> None:
    @farebox.attribute(user="ada")
    def generator() -> Iterator[int]:
        yield 1
        yield 2

    seen = [current() for _ in generator()]

    assert seen == [{}, {}]


def test_a_decorated_generator_still_takes_values_exceptions_and_close() -> None:
    log: list[Any] = []

    @farebox.attribute(user="ada")
    def generator() -> Any:
        try:
            log.append((yield 1))
            try:
                yield 2
            except ValueError as error:
                log.append(str(error))
            yield 3
        finally:
            log.append(current()["user.id"] if current() else "closed")
        return "done"

    running = generator()
    assert next(running) == 1
    assert running.send("sent") == 2
    assert running.throw(ValueError("thrown")) == 3
    running.close()

    assert log[:2] == ["sent", "thrown"]
    assert len(log) == 3


def test_a_generator_that_returns_a_value_still_does() -> None:
    @farebox.attribute(user="ada")
    def inner() -> Any:
        yield 1
        return "done"

    def outer() -> Any:
        result = yield from inner()
        yield result

    assert list(outer()) == [1, "done"]


def test_an_async_with_block_works_too() -> None:
    async def run() -> Any:
        async with farebox.attribute(user="ada"):
            await asyncio.sleep(0)
            return current()

    assert asyncio.run(run()) == {"user.id": "ada"}


def test_tasks_inherit_and_do_not_leak() -> None:
    async def task(name: str) -> Any:
        with farebox.attribute(user=name):
            await asyncio.sleep(0.01)
            return current()

    async def run() -> Any:
        with farebox.attribute(project="tram"):
            return await asyncio.gather(task("ada"), task("bob"), asyncio.to_thread(current))

    assert asyncio.run(run()) == [
        {"farebox.project": "tram", "user.id": "ada"},
        {"farebox.project": "tram", "user.id": "bob"},
        {"farebox.project": "tram"},
    ]


def test_a_plain_thread_starts_without_and_a_copied_context_with() -> None:
    seen: list[Any] = []
    with farebox.attribute(user="ada"):
        context = contextvars.copy_context()
        threads = [
            threading.Thread(target=lambda: seen.append(current())),
            threading.Thread(target=lambda: context.run(lambda: seen.append(current()))),
        ]
        for thread in threads:
            thread.start()
            thread.join()

    assert seen == [{}, {"user.id": "ada"}]


def test_metadata_that_is_too_long_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with farebox.attribute(user="ada", metadata={"k": "x" * 5000}):
        assert current() == {"user.id": "ada"}

    assert "metadata over 4096 bytes" in caplog.text


def test_values_of_other_types_never_raise() -> None:
    odd: Any = {"user": 7, "tags": 5, "metadata": {"when": object()}}
    with farebox.attribute(**odd):
        assert current()["user.id"] == "7"
    with farebox.attribute(tags="one"):
        assert current() == {"farebox.tags": ["one"]}

    assert safety.faults["attribution.tags"] == 1


def test_the_payer_is_on_the_span_of_the_call(provider: FakeProvider, recorder: Recorder) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k")
    with farebox.attribute(user="ada", tags=["night"]):
        client.embeddings.create(model="text-embedding-3-small", input="x")

    assert recorder.one().attributes["user.id"] == "ada"
    assert recorder.one().attributes["farebox.tags"] == ["night"]


def test_a_stream_is_paid_by_whoever_opened_it(provider: FakeProvider, recorder: Recorder) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k")
    messages: Any = [{"role": "user", "content": "x"}]
    with farebox.attribute(user="ada"):
        stream = client.chat.completions.create(model="gpt-4o", messages=messages, stream=True)
    with farebox.attribute(user="bob"):
        list(stream)

    assert recorder.one().attributes["user.id"] == "ada"


def test_suppressed_calls_make_no_span(provider: FakeProvider, recorder: Recorder) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k")

    @farebox.suppress()
    def decorated() -> None:
        client.embeddings.create(model="text-embedding-3-small", input="x")

    async def asynchronous() -> None:
        async with farebox.suppress(), openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k") as other:
            await other.embeddings.create(model="text-embedding-3-small", input="x")

    with farebox.suppress():
        client.embeddings.create(model="text-embedding-3-small", input="x")
    decorated()
    asyncio.run(asynchronous())

    assert len(provider.served) == 3
    assert recorder.spans() == []
