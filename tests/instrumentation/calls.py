"""One driver for each SDK: how an app calls it, and what it sees of a call.

What an app sees is put down as the classes and the texts of results, chunks and exceptions, so that it can be compared
between a patched and an unpatched SDK; ids and times, which differ from call to call, are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.server import FakeServer

MESSAGES: Any = [{"role": "user", "content": "What does a ride cost?"}]
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
VOLATILE = re.compile(UUID + r"|0x[0-9a-f]+|[0-9a-f]{10,}|\d{9,}(\.\d+)?|\d\d:\d\d:\d\d|\d\.\d{3,}|127\.0\.0\.1:\d+")

#: `left` closes a stream after its first chunk, `broken` loses its connection, `error` is refused by the provider.
KINDS = ("answer", "stream", "left", "error", "broken")
STREAMED = ("stream", "left", "broken")

Seen = tuple[str, ...]


@dataclass(frozen=True)
class Driver:
    """How an SDK is called. `call` takes the client, the model, whether to stream, and answers what the app gets."""

    fake: str
    model: str
    opened: Callable[[str], Any]
    call: Callable[[Any, str, bool], Any]
    opened_async: Callable[[str], Any] | None = None
    call_async: Callable[[Any, str, bool], Any] | None = None
    raw: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)

    @contextlib.contextmanager
    def served(self) -> Iterator[FakeServer]:
        """Start the provider's fake."""
        module, _, name = self.fake.partition(":")
        with getattr(importlib.import_module(f"tests.fakes.{module}"), name)() as fake:
            yield fake

    def walk(self, url: str, note: Callable[[str, Seen], None]) -> None:
        """Make a call of each kind, and have `note` take what the app sees of it."""
        if self.opened_async:
            asyncio.run(self._walk_async(self.opened_async(url), note))
        opened: Any = self.opened(url)
        with opened if hasattr(opened, "__exit__") else contextlib.nullcontext(opened) as client:
            for what in KINDS:
                model, is_stream = self._asked(what)
                note(f"sync {what}", seen_by(lambda: consumed(self.call(client, model, is_stream), what)))  # noqa: B023
            for name, call in self.raw.items():
                note(name, seen_by(lambda: described(call(client))))  # noqa: B023

    async def _walk_async(self, opened: Any, note: Callable[[str, Seen], None]) -> None:
        call = self.call_async or self.call
        async with opened if hasattr(opened, "__aexit__") else contextlib.nullcontext(opened) as client:
            for what in KINDS:
                try:
                    seen = await consumed_async(call(client, *self._asked(what)), what)
                except Exception as error:
                    seen = raised(error)
                await settled()
                note(f"async {what}", seen)

    def _asked(self, what: str) -> tuple[str, bool]:
        """The model, by whose name the fake knows how to behave, and whether to stream."""
        models = {"left": f"endless:{self.model}", "error": "fail-400", "broken": f"cut:{self.model}"}
        return models.get(what, self.model), what in STREAMED


def consumed(result: Any, what: str) -> Seen:
    if what not in STREAMED:
        return described(result)
    seen = [name_of(result)]
    for chunk in result:
        seen += described(chunk)
        if what == "left":
            result.close()
            break
    return tuple(seen)


async def consumed_async(calling: Any, what: str) -> Seen:
    result = await calling if inspect.isawaitable(calling) else calling
    if what not in STREAMED:
        return described(result)
    seen = [name_of(result)]
    async for chunk in result:
        seen += described(chunk)
        if what == "left":
            await closed(result)
            break
    return tuple(seen)


async def closed(stream: Any) -> None:
    close = getattr(stream, "aclose", None) or getattr(stream, "close", None)
    closing = close() if close else None
    if inspect.isawaitable(closing):
        await closing


async def settled() -> None:
    """Let the event loop finish what it does for streams that were dropped: their `aclose` is a task of its own."""
    gc.collect()
    await asyncio.sleep(0)
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=1)


def seen_by(app: Callable[[], Seen]) -> Seen:
    try:
        return app()
    except Exception as error:
        return raised(error)


def raised(error: BaseException) -> Seen:
    """An exception with all that hang on it: one of ours must not be among them."""
    found: list[str] = []
    linked: BaseException | None = error
    while linked is not None:
        found += ["raised", *described(linked)]
        linked = linked.__cause__ or linked.__context__
    return tuple(found)


def described(value: Any) -> Seen:
    return name_of(value), VOLATILE.sub("#", str(value))


def name_of(value: Any) -> str:
    kind = value.__class__
    return f"{kind.__module__}.{kind.__qualname__}"


def _openai(url: str) -> Any:
    import openai

    return openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)


def _openai_async(url: str) -> Any:
    import openai

    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)


def _chat(client: Any, model: str, is_stream: bool) -> Any:
    return client.chat.completions.create(model=model, messages=MESSAGES, stream=is_stream)


def _chat_raw(client: Any, **arguments: Any) -> Any:
    with client.chat.completions.with_streaming_response.create(
        model=arguments.pop("model"), messages=MESSAGES, **arguments
    ) as response:
        return list(response.iter_lines())


def _chat_manager(client: Any) -> Any:
    with client.chat.completions.stream(model="gpt-4o", messages=MESSAGES) as stream:
        return [event.type for event in stream]


def _anthropic(url: str) -> Any:
    import anthropic

    return anthropic.Anthropic(base_url=url, api_key="k", max_retries=0)


def _anthropic_async(url: str) -> Any:
    import anthropic

    return anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0)


def _message(client: Any, model: str, is_stream: bool) -> Any:
    return client.messages.create(model=model, max_tokens=9, messages=MESSAGES, stream=is_stream)


def _message_raw(client: Any) -> Any:
    with client.messages.with_streaming_response.create(
        model="claude-sonnet-4-5", max_tokens=9, messages=MESSAGES
    ) as response:
        return response.read()


def _groq(url: str) -> Any:
    import groq

    return groq.Groq(base_url=url, api_key="k", max_retries=0)


def _groq_async(url: str) -> Any:
    import groq

    return groq.AsyncGroq(base_url=url, api_key="k", max_retries=0)


def _together(url: str) -> Any:
    import together

    return together.Together(base_url=url, api_key="k", max_retries=0)


def _together_async(url: str) -> Any:
    import together

    return together.AsyncTogether(base_url=url, api_key="k", max_retries=0)


def _cohere(url: str) -> Any:
    import cohere

    return cohere.ClientV2(api_key="k", base_url=url)


def _cohere_async(url: str) -> Any:
    import cohere

    return cohere.AsyncClientV2(api_key="k", base_url=url)


def _cohere_chat(client: Any, model: str, is_stream: bool) -> Any:
    once = {"max_retries": 0}
    if is_stream:
        return client.chat_stream(model=model, messages=MESSAGES, request_options=once)
    return client.chat(model=model, messages=MESSAGES, request_options=once)


def _mistral(url: str) -> Any:
    from mistralai.client import Mistral

    return Mistral(api_key="k", server_url=url)


def _mistral_chat(client: Any, model: str, is_stream: bool) -> Any:
    method = client.chat.stream if is_stream else client.chat.complete
    return method(model=model, messages=MESSAGES)


def _mistral_chat_async(client: Any, model: str, is_stream: bool) -> Any:
    method = client.chat.stream_async if is_stream else client.chat.complete_async
    return method(model=model, messages=MESSAGES)


def _google(url: str) -> Any:
    from google import genai

    return genai.Client(api_key="k", http_options={"base_url": url})


def _google_async(url: str) -> Any:
    return _google(url).aio


def _google_content(client: Any, model: str, is_stream: bool) -> Any:
    method = client.models.generate_content_stream if is_stream else client.models.generate_content
    return method(model=model, contents="What does a ride cost?")


def _ollama(url: str) -> Any:
    import ollama

    return ollama.Client(host=url)


def _ollama_async(url: str) -> Any:
    import ollama

    return ollama.AsyncClient(host=url)


def _ollama_chat(client: Any, model: str, is_stream: bool) -> Any:
    return client.chat(model=model, messages=MESSAGES, stream=is_stream)


def _hub(url: str) -> Any:
    from huggingface_hub import InferenceClient

    return InferenceClient(base_url=f"{url}/v1", api_key="k")


def _hub_async(url: str) -> Any:
    from huggingface_hub import AsyncInferenceClient

    return AsyncInferenceClient(base_url=f"{url}/v1", api_key="k")


def _hub_chat(client: Any, model: str, is_stream: bool) -> Any:
    return client.chat_completion(MESSAGES, model=model, stream=is_stream)


def _bedrock(url: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "bedrock-runtime",
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id="id",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}),
    )


def _converse(client: Any, model: str, is_stream: bool) -> Any:
    messages = [{"role": "user", "content": [{"text": "What does a ride cost?"}]}]
    if is_stream:
        return client.converse_stream(modelId=model, messages=messages)["stream"]
    return client.converse(modelId=model, messages=messages)


def _invoke(client: Any) -> Any:
    return client.invoke_model(modelId=CLAUDE_ON_BEDROCK, body=json.dumps({}))["body"].read()


def _azure(url: str) -> Any:
    from azure.ai.inference import ChatCompletionsClient
    from azure.core.credentials import AzureKeyCredential

    return ChatCompletionsClient(endpoint=url, credential=AzureKeyCredential("k"), retry_total=0)


def _azure_async(url: str) -> Any:
    from azure.ai.inference.aio import ChatCompletionsClient
    from azure.core.credentials import AzureKeyCredential
    from azure.core.pipeline.transport import AsyncioRequestsTransport

    return ChatCompletionsClient(
        endpoint=url, credential=AzureKeyCredential("k"), retry_total=0, transport=AsyncioRequestsTransport()
    )


def _azure_chat(client: Any, model: str, is_stream: bool) -> Any:
    return client.complete(messages=MESSAGES, model=model, stream=is_stream)


def _of_litellm() -> Any:
    return importlib.import_module("litellm")  # it stands in an environment of its own, unknown to the checker


def _litellm(url: str) -> Any:
    return url


def _litellm_chat(url: str, model: str, is_stream: bool) -> Any:
    return _of_litellm().completion(
        model=f"anthropic/{model}", messages=MESSAGES, stream=is_stream, api_base=url, api_key="k", num_retries=0
    )


def _litellm_chat_async(url: str, model: str, is_stream: bool) -> Any:
    return _of_litellm().acompletion(
        model=f"anthropic/{model}", messages=MESSAGES, stream=is_stream, api_base=url, api_key="k", num_retries=0
    )


def _litellm_by_openai(url: str, *, is_stream: bool) -> Any:
    answer = _of_litellm().completion(
        model="openai/gpt-4o", messages=MESSAGES, stream=is_stream, api_base=f"{url}/v1", api_key="k", max_retries=0
    )
    return list(answer) if is_stream else answer


CLAUDE_ON_BEDROCK = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"

DRIVERS: Mapping[str, Driver] = {
    "anthropic": Driver(
        "provider:FakeProvider", "claude-sonnet-4-5", _anthropic, _message, _anthropic_async,
        raw={"body": _message_raw},
    ),
    "azure_ai_inference": Driver(
        "provider:FakeProvider", "Llama-3.3-70B-Instruct", _azure, _azure_chat, _azure_async
    ),
    "bedrock": Driver("bedrock:FakeBedrock", CLAUDE_ON_BEDROCK, _bedrock, _converse, raw={"body": _invoke}),
    "cohere": Driver("cohere:FakeCohere", "command-a-03-2025", _cohere, _cohere_chat, _cohere_async),
    "google_genai": Driver("google:FakeGoogle", "gemini-2.5-flash", _google, _google_content, _google_async),
    "groq": Driver("groq:FakeGroq", "llama-3.3-70b-versatile", _groq, _chat, _groq_async),
    "huggingface_hub": Driver(
        "huggingface:FakeInference", "meta-llama/Llama-3.3-70B-Instruct", _hub, _hub_chat, _hub_async
    ),
    "litellm": Driver(
        "provider:FakeProvider", "claude-sonnet-4-5", _litellm, _litellm_chat, _litellm, _litellm_chat_async,
        raw={
            "nested": lambda url: _litellm_by_openai(url, is_stream=False),
            "nested stream": lambda url: _litellm_by_openai(url, is_stream=True),
        },
    ),
    "mistralai": Driver(
        "mistral:FakeMistral", "mistral-large-2411", _mistral, _mistral_chat, _mistral, _mistral_chat_async
    ),
    "ollama": Driver("ollama:FakeOllama", "llama3.2:1b", _ollama, _ollama_chat, _ollama_async),
    "openai": Driver(
        "provider:FakeProvider", "gpt-4o", _openai, _chat, _openai_async,
        raw={
            "body": lambda client: _chat_raw(client, model="gpt-4o"),
            "events": lambda client: _chat_raw(client, model="gpt-4o", stream=True),
            "manager": _chat_manager,
            "refused": lambda client: list(_chat(client, "refuse-silently:gpt-4o", True)),
        },
    ),
    "together": Driver(
        "together:FakeTogether", "meta-llama/Llama-3.3-70B-Instruct-Turbo", _together, _chat, _together_async
    ),
}  # fmt: skip
