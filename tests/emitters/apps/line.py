"""What the programs of the emitters share: an OTLP exporter as any application has it, and the calls that they make."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

PROVIDER = os.environ["PROVIDER"]
COLLECTOR = os.environ["COLLECTOR"]
#: Whether each call stands inside a span of the application's, as behind a web framework, or is a trace of its own.
IS_INSIDE = os.environ.get("INSIDE") == "1"
ASKED: list[Any] = [{"role": "user", "content": "What is the fare?"}]


def global_provider() -> TracerProvider:
    """Set up the application's own tracing; its spans reach the collector at exit."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{COLLECTOR}/v1/traces")))
    trace.set_tracer_provider(provider)
    return provider


@contextmanager
def work() -> Iterator[None]:
    """A piece of the application's work, around one call."""
    if not IS_INSIDE:
        yield
        return
    with trace.get_tracer("shop").start_as_current_span("GET /fare"):
        yield


def call_openai() -> None:
    """Chat whole, streamed and asynchronous, then the other endpoints, each once."""
    import openai

    client = openai.OpenAI(base_url=f"{PROVIDER}/v1", api_key="sk-test", max_retries=0)
    with_usage: Any = {"stream": True, "stream_options": {"include_usage": True}}
    with work():
        client.chat.completions.create(model="gpt-4o", messages=ASKED)
    with work():
        for _ in client.chat.completions.create(model="gpt-4o-mini", messages=ASKED, **with_usage):
            pass
    with work():
        client.responses.create(model="gpt-5", input="What is the fare?")
    with work():
        client.embeddings.create(model="text-embedding-3-small", input="fare")

    async def asynchronous() -> None:
        async with openai.AsyncOpenAI(base_url=f"{PROVIDER}/v1", api_key="sk-test", max_retries=0) as client:
            with work():
                await client.chat.completions.create(model="gpt-4o", messages=ASKED)
            with work():
                async for _ in await client.chat.completions.create(model="gpt-4o", messages=ASKED, **with_usage):
                    pass

    asyncio.run(asynchronous())


def call_anthropic() -> None:
    """A message whole, streamed twice and asynchronous, with cache reads and writes in each answer."""
    import anthropic

    asked: dict[str, Any] = {"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": ASKED}
    client = anthropic.Anthropic(base_url=PROVIDER, api_key="sk-test", max_retries=0)
    with work():
        client.messages.create(**asked)
    with work():
        for _ in client.messages.create(**asked, stream=True):
            pass
    with work(), client.messages.stream(**asked) as stream:
        stream.get_final_message()

    async def asynchronous() -> None:
        async with anthropic.AsyncAnthropic(base_url=PROVIDER, api_key="sk-test", max_retries=0) as client:
            with work():
                await client.messages.create(**asked)

    asyncio.run(asynchronous())


def call_bedrock() -> None:
    """Converse whole and streamed, and a model invoked."""
    import json

    import boto3

    client = boto3.client(
        "bedrock-runtime", region_name="us-east-1", endpoint_url=PROVIDER,
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    model = "anthropic.claude-sonnet-4-5-20250929-v1:0"
    asked = [{"role": "user", "content": [{"text": "What is the fare?"}]}]
    with work():
        client.converse(modelId=model, messages=asked)
    with work():
        for _ in client.converse_stream(modelId=model, messages=asked)["stream"]:
            pass
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64, "messages": ASKED}
    with work():
        client.invoke_model(modelId=model, body=json.dumps(body))["body"].read()
