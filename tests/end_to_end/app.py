"""A small application that calls two LLM SDKs. Nothing in it knows farebox but the words about who pays."""

from __future__ import annotations

import contextlib

import anthropic
import openai
from anthropic.types import MessageParam
from openai.types.chat import ChatCompletionUserMessageParam

import farebox


def main() -> None:
    with farebox.attribute(user="ada", user_email="ada@example.com", service="support-bot", category="rag"):
        ask_openai()
    with farebox.attribute(user="grace", service="digest", category="summary"):
        ask_anthropic()


def ask_openai() -> None:
    client = openai.OpenAI(max_retries=0)
    messages: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Where is my parcel?"}]
    client.chat.completions.create(model="gpt-4o-mini", messages=messages)
    for _ in client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True):
        pass
    client.responses.create(model="gpt-4.1-mini", input="Where is my parcel?")
    client.embeddings.create(model="text-embedding-3-small", input="Where is my parcel?")
    with contextlib.suppress(openai.RateLimitError):
        client.chat.completions.create(model="fail-429", messages=messages)


def ask_anthropic() -> None:
    client = anthropic.Anthropic(max_retries=0)
    messages: list[MessageParam] = [{"role": "user", "content": "Summarize the day."}]
    client.messages.create(model="claude-sonnet-4-5", max_tokens=300, messages=messages)
    with client.messages.stream(model="claude-sonnet-4-5", max_tokens=300, messages=messages) as stream:
        stream.get_final_message()


if __name__ == "__main__":
    main()
