"""What the app sees of a call is what the SDK made: results, exceptions, attributes; whatever fails in our own code."""

from __future__ import annotations

import asyncio
import pickle
import time
import traceback
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry import context, trace

import farebox
from farebox import metering, safety
from tests.fakes.provider import FakeProvider
from tests.instrumentation.recorder import Recorder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MESSAGES: Any = [{"role": "user", "content": "What does a ride cost?"}]


def client_of(provider: FakeProvider) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k", max_retries=0)


def chat(client: Any, **arguments: Any) -> Any:
    return client.chat.completions.create(**{"model": "gpt-4o", "messages": MESSAGES, **arguments})


def test_an_answer_is_the_sdks_own_object_and_can_be_pickled(provider: FakeProvider, recorder: Recorder) -> None:
    answer = chat(client_of(provider))

    assert type(answer).__module__.startswith("openai.")
    assert pickle.loads(pickle.dumps(answer)) == answer


def test_a_raw_response_is_the_sdks_own_object(provider: FakeProvider, recorder: Recorder) -> None:
    raw = client_of(provider).chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES)

    assert type(raw).__name__ == "LegacyAPIResponse"
    assert raw.headers["x-request-id"]
    assert raw.http_response.json()["usage"]["total_tokens"] == 2306
    pickle.dumps(raw.http_response)


def test_an_exception_is_the_sdks_own(provider: FakeProvider, recorder: Recorder) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        chat(client_of(provider), model="fail-429")

    assert caught.value.status_code == 429
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or "farebox" not in repr(caught.value.__context__)
    assert "openai/_base_client.py" in "".join(traceback.format_tb(caught.value.__traceback__))


def test_wrong_arguments_fail_as_without_us(provider: FakeProvider, recorder: Recorder) -> None:
    with pytest.raises(TypeError, match="Missing required arguments"):
        client_of(provider).chat.completions.create(model="gpt-4o")  # type: ignore[call-overload]

    assert recorder.spans() == []


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_is_no_exception_passes_and_is_a_cancelled_call(
    provider: FakeProvider, recorder: Recorder, raised: type[BaseException]
) -> None:
    import httpx2

    def interrupt(request: httpx2.Request) -> httpx2.Response:
        raise raised

    http = httpx2.Client(transport=httpx2.MockTransport(interrupt))
    client = openai.OpenAI(base_url=provider.url, api_key="k", http_client=http, max_retries=0)

    with pytest.raises(raised):
        chat(client)

    assert recorder.one().attributes["farebox.outcome"] == "cancelled"
    assert "error.type" not in recorder.one().attributes


HOOKS = ["read_request", "read_response", "read_chunk"]


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_fault_of_ours_changes_nothing_for_the_app(
    provider: FakeProvider,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    hook: str,
    is_stream: bool,
    sdk: str,
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(metering._sdks[sdk], hook, fail)

    for _ in range(3):
        if sdk == "openai":
            answer = chat(client_of(provider), stream=is_stream)
        else:
            client = anthropic.Anthropic(base_url=provider.url, api_key="k")
            answer = client.messages.create(
                model="claude-sonnet-4-5", max_tokens=9, messages=MESSAGES, stream=is_stream
            )
        if is_stream:
            assert len(list(answer)) >= 9
        else:
            assert answer.model

    is_reached = hook == "read_request" or (hook == "read_chunk") == is_stream
    assert safety.faults[f"farebox.sdks.{sdk}.{hook}"] == (3 if is_reached else 0)
    assert len([record for record in caplog.records if record.name == "farebox"]) == (1 if is_reached else 0)
    assert len(recorder.spans()) == (0 if hook == "read_request" else 3)


def test_a_fault_in_ending_a_span_changes_nothing(
    provider: FakeProvider, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from farebox import spans

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(spans.CallSpan, "end", fail)

    assert chat(client_of(provider)).id
    with pytest.raises(openai.RateLimitError):
        chat(client_of(provider), model="fail-429")
    assert safety.faults["farebox.sdks.openai.end"] == 2


TARGETS = [
    (kind, "request")
    for module in (openai._base_client, anthropic._base_client)
    for kind in (module.SyncAPIClient, module.AsyncAPIClient)
]


def test_switching_off_puts_the_very_objects_back() -> None:
    before = [vars(kind)[name] for kind, name in TARGETS]

    farebox.instrument()
    during = [vars(kind)[name] for kind, name in TARGETS]
    farebox.uninstrument()
    after = [vars(kind)[name] for kind, name in TARGETS]

    assert all(one is not other for one, other in zip(before, during, strict=True))
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_switching_on_twice_meters_once(provider: FakeProvider, recorder: Recorder) -> None:
    assert farebox.instrument()
    chat(client_of(provider))

    assert len(recorder.spans()) == 1


def test_a_client_made_before_is_metered_and_one_made_during_is_harmless_after(
    provider: FakeProvider, recorder: Recorder
) -> None:
    farebox.uninstrument()
    old = client_of(provider)
    old_create = old.chat.completions.with_raw_response.create
    farebox.instrument()
    new = client_of(provider)
    new_create = new.chat.completions.with_raw_response.create
    old_create(model="gpt-4o", messages=MESSAGES)
    new_create(model="gpt-4o", messages=MESSAGES)
    farebox.uninstrument()
    new_create(model="gpt-4o", messages=MESSAGES)
    chat(new)

    assert len(recorder.spans()) == 2


def test_somebody_elses_wrapper_around_ours_stays_and_ours_lets_through(
    provider: FakeProvider, recorder: Recorder
) -> None:
    import functools

    kind = openai._base_client.SyncAPIClient
    inner = vars(kind)["request"]
    calls = []

    @functools.wraps(inner)
    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return inner.__get__(self, kind)(*args, **kwargs)

    kind.request = theirs  # type: ignore[method-assign]
    try:
        farebox.uninstrument()
        chat(client_of(provider))
        assert vars(kind)["request"] is theirs
        assert len(calls) == 1
        assert recorder.spans() == []
    finally:
        kind.request = inner.__wrapped__  # type: ignore[method-assign]


def test_the_apps_tracer_provider_is_left_alone(provider: FakeProvider, recorder: Recorder) -> None:
    before = trace.get_tracer_provider()

    chat(client_of(provider))

    assert trace.get_tracer_provider() is before
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_call_is_a_child_of_the_apps_span_even_when_that_is_not_sampled(
    provider: FakeProvider, recorder: Recorder
) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

    for sampler in (ALWAYS_ON, ALWAYS_OFF):
        with TracerProvider(sampler=sampler).get_tracer("app").start_as_current_span("handler") as handler:
            chat(client_of(provider))
            parent = handler.get_span_context()
            span = recorder.spans()[-1]
            assert span.trace_id == f"{parent.trace_id:032x}"
            assert span.parent_span_id == f"{parent.span_id:016x}"


@pytest.mark.parametrize(
    "key",
    [
        "suppress_instrumentation",
        "suppress_language_model_instrumentation",
        "opentelemetry.genai.client.inference.context",
        pytest.param(context._SUPPRESS_INSTRUMENTATION_KEY, id="of this process"),
    ],
)
def test_a_call_that_others_leave_out_is_still_paid_for(provider: FakeProvider, recorder: Recorder, key: str) -> None:
    """Frameworks set these around calls that they report themselves; no use of a model may be lost by that."""
    token = context.attach(context.set_value(key, True))
    try:
        chat(client_of(provider))
        list(chat(client_of(provider), stream=True))
    finally:
        context.detach(token)

    assert [span.attributes["gen_ai.usage.output_tokens"] for span in recorder.spans()] == [300, 300]


@pytest.mark.parametrize("step_s", [-3600, 3600])
def test_C03_a_clock_that_is_set_meanwhile_changes_no_duration(
    monkeypatch: pytest.MonkeyPatch, recorder: Recorder, step_s: int
) -> None:
    now_ns = time.time_ns

    with farebox.track(provider="acme", model="m"):
        monkeypatch.setattr(time, "time_ns", lambda: now_ns() + step_s * 10**9)
    monkeypatch.undo()

    span = recorder.one()
    assert 0 < span.end_ns - span.start_ns < 10**9


def test_a_seeded_random_gives_no_two_spans_the_same_id(provider: FakeProvider, recorder: Recorder) -> None:
    import random

    client = client_of(provider)
    for _ in range(2):
        random.seed(0)
        chat(client)

    first, second = recorder.spans()
    assert first.trace_id != second.trace_id
    assert first.span_id != second.span_id


def test_limits_of_the_apps_own_spans_do_not_cut_ours(
    provider: FakeProvider, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from farebox import config, exporting

    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2")
    monkeypatch.setenv("OTEL_ATTRIBUTE_COUNT_LIMIT", "2")
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    exporting.start(config.read(), recorder)

    chat(client_of(provider))

    assert recorder.one().attributes["gen_ai.response.model"] == "gpt-4o-2024-08-06"
    assert recorder.one().attributes["gen_ai.usage.output_tokens"] == 300


def test_with_a_global_provider_the_span_goes_the_apps_way(
    provider: FakeProvider, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from farebox import config, exporting

    theirs = InMemorySpanExporter()
    app = TracerProvider()
    app.add_span_processor(SimpleSpanProcessor(theirs))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: app)
    monkeypatch.setenv("FAREBOX_TRACER_PROVIDER", "global")
    exporting.start(config.read(), recorder)

    chat(client_of(provider))

    (span,) = theirs.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["gen_ai.usage.input_tokens"] == 2006
    assert recorder.spans() == []


def test_no_prompt_and_no_key_is_in_a_span(provider: FakeProvider, recorder: Recorder) -> None:
    marker = "xyzzy-marker"
    client = openai.OpenAI(base_url=f"{provider.url}/v1", api_key=marker)
    messages: Any = [{"role": "user", "content": marker}]

    chat(client, messages=messages, user=marker, metadata={"a": marker})
    list(chat(client, messages=messages, stream=True))
    client.audio.speech.create(model="tts-1", voice="alloy", input=marker)

    assert len(recorder.spans()) == 3
    assert marker not in repr(recorder.spans())
