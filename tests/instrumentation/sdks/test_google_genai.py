"""Calls of the real `google-genai` package against its fake; figures are those of `tests.fakes.google`."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials

from tests.fakes.google import FakeGoogle
from tests.instrumentation.recorder import Recorder
from tests.instrumentation.sdks import endings, transparency

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

#: Not in the oldest supported version.
NEWER = frozenset(
    {
        "interaction-sync",
        "interaction-async",
        "raw interaction-sync",
        "raw interaction-async",
        "embeddings by embedContent-sync",
        "embeddings by embedContent-async",
        "test_the_served_tier_stands_over_the_one_asked_for",
        "test_a_streamed_interaction_is_one_span_however_it_ends",
        "test_an_async_streamed_interaction_is_one_span_however_it_ends",
        "test_each_hop_of_a_continued_interaction_is_a_span",
        "test_an_interaction_in_the_background_is_booked_when_it_is_first_fetched",
        "test_a_failed_interaction_is_a_span_with_its_error",
        "test_every_method_is_patched_and_given_back",
    }
)
MODEL = "gemini-2.5-flash"
CONTENT = {
    "input_tokens": 1030,
    "cache_read.input_tokens": 400,
    "audio.input_tokens": 60,
    "image.input_tokens": 210,
    "video.input_tokens": 40,
    "output_tokens": 250,
    "reasoning.output_tokens": 200,
    "image.output_tokens": 20,
}
INTERACTION = {
    "input_tokens": 106,
    "cache_read.input_tokens": 40,
    "audio.input_tokens": 25,
    "output_tokens": 34,
    "reasoning.output_tokens": 14,
    "web_searches": 3,
}
#: What a chunk in the middle of a stream knows.
EARLY = {"input_tokens": 1900, "output_tokens": 7}


@pytest.fixture
def fake() -> Iterator[FakeGoogle]:
    with FakeGoogle() as made:
        yield made


def gemini(fake: FakeGoogle) -> genai.Client:
    return genai.Client(api_key="key", http_options=types.HttpOptions(base_url=fake.url))


def vertex(fake: FakeGoogle) -> genai.Client:
    return genai.Client(
        vertexai=True,
        project="project",
        location="us-central1",
        credentials=Credentials(token="token"),  # type: ignore[no-untyped-call]  # google-auth has no types
        http_options=types.HttpOptions(base_url=fake.url),
    )


@pytest.fixture
def client(no_faults: None, fake: FakeGoogle) -> Iterator[genai.Client]:
    with gemini(fake) as made:
        yield made


def run_async(client: genai.Client, call: Callable[[Any], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with client.aio as opened:
            return await call(opened)

    return asyncio.run(run())


def content(client: Any, model: str = MODEL, **config: Any) -> Any:
    return client.models.generate_content(model=model, contents="What does a ride cost?", config=config or None)


def streamed(client: Any, behavior: str = "") -> Any:
    model = f"{behavior}:{MODEL}" if behavior else MODEL
    return client.models.generate_content_stream(model=model, contents="What does a ride cost?")


def image_bytes() -> types.Image:
    return types.Image(image_bytes=b"no picture", mime_type="image/png")


Call = Callable[[Any], Any]

CALLS: dict[str, tuple[Callable[[FakeGoogle], genai.Client], str, dict[str, Any], Call]] = {
    "content": (gemini, f"generate_content {MODEL}", CONTENT, content),
    "content on vertex": (vertex, f"generate_content {MODEL}", CONTENT, content),
    "chat": (gemini, f"generate_content {MODEL}", CONTENT, lambda c: c.chats.create(model=MODEL).send_message("Hi")),
    "raw answer": (
        gemini,
        f"generate_content {MODEL}",
        CONTENT,
        lambda c: c.models.generate_content(
            model=MODEL, contents="Hi", config=types.GenerateContentConfig(should_return_http_response=True)
        ),
    ),
    "hidden thoughts": (
        gemini,
        "generate_content gemini-hidden",
        {"input_tokens": 35, "output_tokens": 86},
        lambda c: content(c, "gemini-hidden"),
    ),
    "blocked prompt": (
        gemini,
        "generate_content gemini-blocked",
        {"input_tokens": 8, "output_tokens": 0},
        lambda c: content(c, "gemini-blocked"),
    ),
    "no usage": (gemini, f"generate_content no-usage:{MODEL}", {}, lambda c: content(c, f"no-usage:{MODEL}")),
    "grounded": (
        gemini,
        f"generate_content {MODEL}",
        {**CONTENT, "web_searches": 2},
        lambda c: content(c, tools=[types.Tool(google_search=types.GoogleSearch())]),
    ),
    "embeddings": (
        gemini,
        "embeddings gemini-embedding-001",
        {"input_tokens": 11},
        lambda c: c.models.embed_content(model="gemini-embedding-001", contents=["A", "B"]),
    ),
    "embeddings by predict": (
        vertex,
        "embeddings text-embedding-005",
        {"input_tokens": 9},
        lambda c: c.models.embed_content(model="text-embedding-005", contents=["A", "B"]),
    ),
    "embeddings by embedContent": (
        vertex,
        "embeddings gemini-embedding-2",
        {"input_tokens": 11},
        lambda c: c.models.embed_content(model="gemini-embedding-2", contents=["A"]),
    ),
    "images of which one is withheld": (
        vertex,
        "image_generation imagen-4.0-generate-001",
        {"output_images": 2},
        lambda c: c.models.generate_images(
            model="imagen-4.0-generate-001", prompt="A tram", config=types.GenerateImagesConfig(number_of_images=3)
        ),
    ),
    "edited image": (
        vertex,
        "image_generation imagen-3.0-capability-001",
        {"output_images": 1},
        lambda c: c.models.edit_image(
            model="imagen-3.0-capability-001",
            prompt="A red tram",
            reference_images=[types.RawReferenceImage(reference_id=1, reference_image=image_bytes())],
        ),
    ),
    "upscaled image": (
        vertex,
        "image_generation imagen-4.0-upscale-preview",
        {"output_images": 1},
        lambda c: c.models.upscale_image(model="imagen-4.0-upscale-preview", image=image_bytes(), upscale_factor="x2"),
    ),
    "videos": (
        vertex,
        "video_generation veo-3.0-generate-001",
        {"output_seconds": 16.0},
        lambda c: c.models.generate_videos(
            model="veo-3.0-generate-001",
            prompt="A tram",
            config=types.GenerateVideosConfig(number_of_videos=2, duration_seconds=8),
        ),
    ),
    "interaction": (
        gemini,
        f"generate_content {MODEL}",
        INTERACTION,
        lambda c: c.interactions.create(model=MODEL, input="Hi"),
    ),
    "raw interaction": (
        gemini,
        f"generate_content {MODEL}",
        INTERACTION,
        lambda c: c.interactions.with_raw_response.create(model=MODEL, input="Hi"),
    ),
}


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("make", "name", "usage", "call"), CALLS.values(), ids=CALLS)
def test_each_kind_of_call_is_one_span_with_its_usage(
    fake: FakeGoogle,
    recorder: Recorder,
    make: Callable[[FakeGoogle], genai.Client],
    name: str,
    usage: dict[str, Any],
    call: Call,
    is_async: bool,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if is_async:
            run_async(make(fake), call)
        else:
            call(make(fake))

    span = recorder.one()
    assert span.name == name
    assert span.scope == "farebox.sdks.google_genai"
    assert span.attributes["gen_ai.provider.name"] == ("gcp.vertex_ai" if make is vertex else "gcp.gemini")
    assert span.attributes.get("farebox.region") == ("us-central1" if make is vertex else None)
    assert span.attributes["server.address"] == "127.0.0.1"
    assert "farebox.outcome" not in span.attributes
    assert recorder.usage() == usage


def test_a_span_says_model_id_and_how_it_finished(client: genai.Client, recorder: Recorder) -> None:
    answer = content(client)

    attributes = recorder.one().attributes
    assert isinstance(answer, types.GenerateContentResponse)
    assert attributes["gen_ai.request.model"] == MODEL
    assert attributes["gen_ai.response.model"] == "gemini-2.5-flash-001"
    assert attributes["gen_ai.response.id"] == answer.response_id
    assert attributes["gen_ai.response.finish_reasons"] == ["STOP"]


@pytest.mark.usefixtures("no_faults")
def test_the_served_tier_stands_over_the_one_asked_for(fake: FakeGoogle, recorder: Recorder) -> None:
    content(gemini(fake), service_tier="flex")
    content(vertex(fake), "gemini-priority", service_tier="flex")

    asked, served = recorder.spans()
    assert asked.attributes["farebox.service_tier"] == "flex"
    assert served.attributes["farebox.service_tier"] == "priority"


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("publishers/google/models/gemini-2.5-flash", "gemini-2.5-flash"),
        (
            "projects/p/locations/europe-west4/publishers/google/models/gemini-2.5-flash",
            "gemini-2.5-flash",
        ),
        ("publishers/meta/models/llama-4-maas", "publishers/meta/models/llama-4-maas"),
        ("projects/p/locations/europe-west4/endpoints/123", "projects/p/locations/europe-west4/endpoints/123"),
    ],
)
def test_a_model_of_google_is_named_without_its_path(
    fake: FakeGoogle, recorder: Recorder, model: str, named: str
) -> None:
    content(vertex(fake), model)

    attributes = recorder.one().attributes
    assert attributes["gen_ai.request.model"] == named
    assert attributes["farebox.region"] == ("europe-west4" if "europe" in model else "us-central1")


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_each_hop_of_automatic_function_calling_is_a_span(
    client: genai.Client, recorder: Recorder, fake: FakeGoogle, is_stream: bool
) -> None:
    def fare(zone: int) -> int:
        """What a ride costs."""
        return 2 * zone

    chat = client.chats.create(model=MODEL, config=types.GenerateContentConfig(tools=[fare]))
    if is_stream:
        assert list(chat.send_message_stream("What does a ride cost?"))
    else:
        assert chat.send_message("What does a ride cost?").text

    spans = recorder.spans()
    assert len(spans) == len(fake.served) == 3
    assert [span.attributes["gen_ai.usage.input_tokens"] for span in spans] == [1030, 1030, 1030]


def test_a_stream_says_the_last_word_on_each_count(client: genai.Client, recorder: Recorder) -> None:
    chunks = list(streamed(client))

    attributes = recorder.one().attributes
    assert len(chunks) == 9
    assert attributes["gen_ai.request.stream"] is True
    assert 0 < attributes["gen_ai.response.time_to_first_chunk"] < 5
    assert attributes["gen_ai.response.finish_reasons"] == ["STOP"]
    assert recorder.usage() == CONTENT


def under_a_generator(outcome: str | None) -> str | None:
    """The SDK's own generators stand above our proxy: they let go of it, closed or not."""
    return "dropped" if outcome == "closed_early" else outcome


@pytest.mark.parametrize(("end", "outcome"), endings.SYNC.values(), ids=endings.SYNC)
def test_a_stream_is_one_span_however_it_ends(
    client: genai.Client, recorder: Recorder, end: Callable[[endings.Open], None], outcome: str | None
) -> None:
    end(lambda behavior: streamed(client, behavior))

    assert recorder.one().attributes.get("farebox.outcome") == under_a_generator(outcome)
    assert recorder.usage() == (CONTENT if outcome is None else EARLY)


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("end", "outcome"), endings.ASYNC.values(), ids=endings.ASYNC)
def test_an_async_stream_is_one_span_however_it_ends(
    fake: FakeGoogle,
    recorder: Recorder,
    end: Callable[[endings.Open], Awaitable[None]],
    outcome: str | None,
) -> None:
    run_async(gemini(fake), lambda client: end(lambda behavior: streamed(client, behavior)))

    attributes = recorder.wait_for(1)[0].attributes
    assert len(recorder.spans()) == 1
    assert attributes.get("farebox.outcome") == under_a_generator(outcome)
    if outcome is None:
        assert recorder.usage() == CONTENT


def interaction_stream(client: Any, behavior: str = "") -> Any:
    model = f"{behavior}:{MODEL}" if behavior else MODEL
    return client.interactions.create(model=model, input="Hi", stream=True)


@pytest.mark.parametrize("name", ["complete", "close", "leave", "cut"])
def test_a_streamed_interaction_is_one_span_however_it_ends(
    client: genai.Client, recorder: Recorder, name: str
) -> None:
    end, outcome = endings.SYNC[name]
    end(lambda behavior: interaction_stream(client, behavior))

    assert recorder.one().attributes.get("farebox.outcome") == outcome
    assert recorder.one().attributes["gen_ai.request.stream"] is True
    assert recorder.usage() == (INTERACTION if outcome is None else {})


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("name", ["complete", "close", "cancel while reading"])
def test_an_async_streamed_interaction_is_one_span_however_it_ends(
    fake: FakeGoogle, recorder: Recorder, name: str
) -> None:
    end, outcome = endings.ASYNC[name]
    run_async(gemini(fake), lambda client: end(lambda behavior: interaction_stream(client, behavior)))

    assert recorder.wait_for(1)[0].attributes.get("farebox.outcome") == outcome
    assert recorder.usage() == (INTERACTION if outcome is None else {})


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_each_hop_of_a_continued_interaction_is_a_span(
    client: genai.Client, recorder: Recorder, is_stream: bool
) -> None:
    from google.genai.interactions import Interaction

    answer = client.interactions.create(
        model="gemini-continued", input="Hi", stream=is_stream, automatic_continuation=True
    )
    if is_stream:
        assert not isinstance(answer, Interaction)
        assert len(list(answer)) == 24
    else:
        assert isinstance(answer, Interaction)
        assert answer.usage is not None
        assert answer.usage.total_tokens == 280

    spans = recorder.spans()
    assert [span.attributes["gen_ai.usage.output_tokens"] for span in spans] == [34, 34]
    assert len({span.attributes["gen_ai.response.id"] for span in spans}) == 2


def test_an_interaction_in_the_background_is_booked_when_it_is_first_fetched(
    client: genai.Client, recorder: Recorder
) -> None:
    from google.genai.interactions import Interaction

    begun = client.interactions.create(model=MODEL, input="Hi", background=True)
    assert isinstance(begun, Interaction)
    assert begun.id is not None
    assert recorder.spans() == []

    client.interactions.get(begun.id)
    client.interactions.get(begun.id)
    list(client.interactions.get(begun.id, stream=True))

    assert recorder.one().attributes["gen_ai.response.id"] == begun.id
    assert recorder.one().attributes["gen_ai.response.model"] == MODEL
    assert recorder.usage() == INTERACTION


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_each_answer_of_a_batch_is_booked_once(fake: FakeGoogle, recorder: Recorder, is_async: bool) -> None:
    name, client = f"batches/inline-{is_async}", gemini(fake)
    for _ in range(2):
        if is_async:
            run_async(gemini(fake), lambda opened: opened.batches.get(name=name))
        else:
            client.batches.get(name=name)

    first, second = (span.attributes for span in recorder.spans())
    assert first["farebox.batch"] is second["farebox.batch"] is True
    assert first["gen_ai.operation.name"] == "generate_content"
    assert first["gen_ai.request.model"] == MODEL
    assert first["gen_ai.response.model"] == "gemini-2.5-flash-001"
    assert first["gen_ai.usage.input_tokens"] == 200
    assert first["gen_ai.usage.output_tokens"] == 50
    assert first["gen_ai.response.id"] != second["gen_ai.response.id"]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_batch_of_embeddings_is_booked(client: genai.Client, recorder: Recorder, is_async: bool) -> None:
    name = f"batches/embeddings-{is_async}"
    if is_async:
        run_async(client, lambda opened: opened.batches.get(name=name))
    client.batches.get(name=name)
    client.batches.get(name=name)

    assert recorder.one().attributes["gen_ai.operation.name"] == "embeddings"
    assert recorder.usage() == {"input_tokens": 6}


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_the_file_of_a_batch_is_booked_when_it_is_downloaded(
    fake: FakeGoogle, recorder: Recorder, is_async: bool
) -> None:
    client = gemini(fake)
    destination = client.batches.get(name=f"batches/file-{is_async}").dest
    assert destination is not None
    file = destination.file_name
    assert file is not None
    assert recorder.spans() == []

    if is_async:
        content = run_async(client, lambda opened: opened.files.download(file=file))
    else:
        content = client.files.download(file=file)
        client.files.download(file=file)

    assert content.count(b"\n") == 4
    assert [span.attributes["gen_ai.usage.output_tokens"] for span in recorder.spans()] == [50, 50, 50]
    assert all(span.attributes["farebox.batch"] is True for span in recorder.spans())


def test_a_running_batch_and_other_files_are_not_looked_into(client: genai.Client, recorder: Recorder) -> None:
    assert client.batches.get(name="batches/running-1").dest is None
    assert client.files.download(file="files/song")

    assert recorder.spans() == []


@pytest.mark.usefixtures("no_faults")
def test_each_turn_of_a_live_session_is_a_span(fake: FakeGoogle, recorder: Recorder) -> None:
    client = genai.Client(vertexai=True, http_options=types.HttpOptions(base_url=fake.url.replace("http://", "ws://")))
    client._api_client._websocket_ssl_ctx = {}  # the loopback speaks no TLS
    heard: list[str | None] = []

    async def talk() -> None:
        async with client.aio.live.connect(model="gemini-live-2.5-flash") as session:
            for _ in range(2):
                await session.send_client_content(turns=types.Content(role="user", parts=[types.Part(text="Hi")]))
                heard.extend([message.text async for message in session.receive()])

    asyncio.run(asyncio.wait_for(talk(), 10))

    assert heard == ["Two", " cents.", None] * 2
    spans = recorder.spans()
    assert [span.name for span in spans] == ["generate_content gemini-live-2.5-flash"] * 2
    assert spans[0].attributes["gen_ai.provider.name"] == "gcp.vertex_ai"
    counts = {name: value for name, value in spans[1].attributes.items() if name.startswith("gen_ai.usage.")}
    assert counts == {
        "gen_ai.usage.input_tokens": 300,
        "gen_ai.usage.audio.input_tokens": 250,
        "gen_ai.usage.output_tokens": 90,
        "gen_ai.usage.audio.output_tokens": 80,
    }


def test_retries_inside_the_sdk_are_one_span(fake: FakeGoogle, recorder: Recorder) -> None:
    retry = types.HttpRetryOptions(attempts=2, initial_delay=0.01, jitter=0.01)
    options = types.HttpOptions(base_url=fake.url, retry_options=retry)
    content(genai.Client(api_key="key", http_options=options), f"flaky:{MODEL}")

    assert [served.status for served in fake.served] == [500, 200]
    assert recorder.usage() == CONTENT


FAILING: dict[str, tuple[Call, str]] = {
    "content": (lambda c: content(c, "fail-400"), "google.genai.errors.ClientError"),
    "video": (
        lambda c: c.models.generate_videos(
            model="fail-400", prompt="A tram", config=types.GenerateVideosConfig(duration_seconds=8)
        ),
        "google.genai.errors.ClientError",
    ),
}


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("call", "kind"), FAILING.values(), ids=FAILING)
def test_a_failed_call_is_a_span_with_its_error_and_without_usage(
    fake: FakeGoogle, recorder: Recorder, call: Call, kind: str, is_async: bool
) -> None:
    with pytest.raises(errors.ClientError, match="Invalid value"):
        run_async(vertex(fake), call) if is_async else call(vertex(fake))

    assert recorder.one().attributes["error.type"] == kind
    assert recorder.one().attributes["farebox.outcome"] == "error"
    assert recorder.usage() == {}


def test_a_failed_interaction_is_a_span_with_its_error(client: genai.Client, recorder: Recorder) -> None:
    with pytest.raises(Exception, match="Invalid value") as caught:
        client.interactions.create(model="fail-400", input="Hi")

    assert type(caught.value).__name__ == "BadRequestError"
    assert str(recorder.one().attributes["error.type"]).endswith("Error")
    assert recorder.one().attributes["farebox.outcome"] == "error"


def test_counting_tokens_is_free(client: genai.Client, recorder: Recorder) -> None:
    assert client.models.count_tokens(model=MODEL, contents="Hi").total_tokens == 7

    assert recorder.spans() == []


def test_every_method_is_patched_and_given_back() -> None:
    transparency.assert_every_target_is_patched_and_restored("google_genai")


@pytest.mark.parametrize("hook", ["read_request", "read_response", "read_chunk"])
def test_a_fault_of_ours_changes_nothing_for_the_app(
    fake: FakeGoogle, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    client = gemini(fake)

    def call() -> Any:
        if hook == "read_chunk":
            return "".join(chunk.text or "" for chunk in streamed(client))
        return content(client).text

    transparency.assert_our_faults_are_not_felt("google_genai", hook, recorder, monkeypatch, call)
