"""LangChain has no spans of ours: what `langchain-openai` sends through the `openai` package is the one row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import openai
import pytest
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel, SecretStr

from tests.fakes.provider import FakeProvider
from tests.instrumentation.recorder import Recorder

pytestmark = pytest.mark.usefixtures("no_faults")

CHAT = {
    "input_tokens": 2006,
    "cache_read.input_tokens": 1920,
    "audio.input_tokens": 0,
    "output_tokens": 300,
    "reasoning.output_tokens": 100,
    "audio.output_tokens": 0,
}
RESPONSES = {
    "input_tokens": 3000,
    "cache_read.input_tokens": 1000,
    "cache_write.input_tokens": 50,
    "cache_write_30m.input_tokens": 30,
    "cache_write_12h.input_tokens": 20,
    "output_tokens": 400,
    "reasoning.output_tokens": 150,
}


class Fare(BaseModel):
    fare: int


def model_of(provider: FakeProvider, **arguments: Any) -> ChatOpenAI:
    made: dict[str, Any] = {"model": "gpt-4o", "base_url": f"{provider.url}/v1", "max_retries": 0, **arguments}
    return ChatOpenAI(api_key=SecretStr("sk-test"), **made)


async def astream(model: ChatOpenAI) -> list[Any]:
    return [chunk async for chunk in model.astream("Hi")]


async def ainvoke(model: ChatOpenAI) -> Any:
    return await model.ainvoke("Hi")


WAYS: list[tuple[str, Callable[[ChatOpenAI], Any]]] = [
    ("invoke", lambda model: model.invoke("Hi")),
    ("stream", lambda model: list(model.stream("Hi"))),
    ("ainvoke", lambda model: asyncio.run(ainvoke(model))),
    ("astream", lambda model: asyncio.run(astream(model))),
]


@pytest.mark.parametrize("stream_usage", [None, True, False])
@pytest.mark.parametrize("call", [way[1] for way in WAYS], ids=[way[0] for way in WAYS])
def test_each_way_to_ask_is_one_span_with_its_usage(
    provider: FakeProvider, recorder: Recorder, call: Callable[[ChatOpenAI], Any], stream_usage: bool | None
) -> None:
    call(model_of(provider, stream_usage=stream_usage))

    span = recorder.one()
    assert span.name == "chat gpt-4o"
    assert span.scope == "farebox.sdks.openai"
    assert len(provider.served) == 1
    assert recorder.usage() == CHAT


@pytest.mark.parametrize("call", [way[1] for way in WAYS], ids=[way[0] for way in WAYS])
def test_the_responses_api_is_one_span_too(
    provider: FakeProvider, recorder: Recorder, call: Callable[[ChatOpenAI], Any]
) -> None:
    call(model_of(provider, model="gpt-5", use_responses_api=True))

    assert len(provider.served) == 1
    assert recorder.usage() == RESPONSES


@pytest.mark.parametrize("stream_usage", [None, True, False])
def test_langchain_sees_the_chunks_that_it_would_see_without_us(
    provider: FakeProvider, recorder: Recorder, stream_usage: bool | None
) -> None:
    import farebox

    model = model_of(provider, stream_usage=stream_usage)
    metered = [(chunk.content, chunk.usage_metadata) for chunk in model.stream("Hi") if hasattr(chunk, "content")]
    farebox.uninstrument()
    plain = [(chunk.content, chunk.usage_metadata) for chunk in model.stream("Hi") if hasattr(chunk, "content")]

    assert metered == plain


def test_a_structured_answer_is_one_span(provider: FakeProvider, recorder: Recorder) -> None:
    answer = model_of(provider).with_structured_output(Fare).invoke("Hi")

    assert answer == Fare(fare=2)
    assert recorder.usage() == CHAT


def test_a_batch_is_one_span_for_each_question(provider: FakeProvider, recorder: Recorder) -> None:
    model_of(provider).batch(["one", "two", "three"])

    assert [span.attributes["gen_ai.usage.input_tokens"] for span in recorder.spans()] == [2006, 2006, 2006]


def test_retries_and_fallbacks_are_a_span_for_each_call_that_langchain_makes(
    provider: FakeProvider, recorder: Recorder
) -> None:
    failing = model_of(provider, model="fail-400")

    failing.with_fallbacks([model_of(provider)]).invoke("Hi")

    failed, answered = recorder.spans()
    assert failed.attributes["error.type"] == "openai.BadRequestError"
    assert "gen_ai.usage.input_tokens" not in failed.attributes
    assert answered.attributes["gen_ai.usage.input_tokens"] == 2006


def test_each_question_to_a_model_with_tools_is_a_span(provider: FakeProvider, recorder: Recorder) -> None:
    @tool
    def fare() -> str:
        """Say what a ride costs."""
        return "2 cents"

    model = model_of(provider).bind_tools([fare])
    first = model.invoke("What does a ride cost?")
    model.invoke([("user", "What does a ride cost?"), first, ("user", "Sure?")])

    assert len(recorder.spans()) == 2


def test_a_stream_that_is_left_is_one_span_and_says_so(provider: FakeProvider, recorder: Recorder) -> None:
    stream = model_of(provider, model="endless:gpt-4o").stream("Hi")
    next(stream)
    assert isinstance(stream, Generator)
    stream.close()

    assert recorder.wait_for(1)[0].attributes["farebox.outcome"] == "closed_early"
    assert recorder.usage() == {}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_error_stays_what_it_was(provider: FakeProvider, recorder: Recorder, is_async: bool) -> None:
    model = model_of(provider, model="fail-400")
    call = (lambda: asyncio.run(ainvoke(model))) if is_async else (lambda: model.invoke("Hi"))

    with pytest.raises(openai.BadRequestError, match="Invalid value"):
        call()

    assert recorder.one().attributes["error.type"] == "openai.BadRequestError"


def test_legacy_completions_and_embeddings_are_one_span_each(provider: FakeProvider, recorder: Recorder) -> None:
    address, key = f"{provider.url}/v1", SecretStr("sk-test")
    OpenAI(model="gpt-3.5-turbo-instruct", base_url=address, api_key=key).invoke("Hi")
    OpenAIEmbeddings(
        model="text-embedding-3-small", base_url=address, api_key=key, check_embedding_ctx_length=False
    ).embed_query("Hi")

    completion, embedding = recorder.spans()
    assert completion.name == "text_completion gpt-3.5-turbo-instruct"
    assert completion.attributes["gen_ai.usage.output_tokens"] == 16
    assert embedding.name == "embeddings text-embedding-3-small"
    assert embedding.attributes["gen_ai.usage.input_tokens"] == 8


@pytest.mark.parametrize("call", [way[1] for way in WAYS], ids=[way[0] for way in WAYS])
def test_a_span_of_the_app_around_a_chain_is_the_parent(
    provider: FakeProvider, recorder: Recorder, call: Callable[[Any], Any]
) -> None:
    """A tracer of LangChain, whoever's, gives the names above ours."""
    chain: Any = ChatPromptTemplate.from_template("{text}") | model_of(provider)

    class Chain:
        """The chain, taking a question as a model does."""

        def __getattr__(self, name: str) -> Any:
            method = getattr(chain, name)
            return lambda text: method({"text": text})

    with TracerProvider().get_tracer("langchain").start_as_current_span("chain RunnableSequence") as parent:
        call(Chain())

    span = recorder.one()
    assert isinstance(parent, trace.Span)
    assert span.parent_span_id == f"{parent.get_span_context().span_id:016x}"
    assert span.trace_id == f"{parent.get_span_context().trace_id:032x}"
