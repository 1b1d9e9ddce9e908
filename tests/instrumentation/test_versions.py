"""An SDK of a version that nobody has tested: patched where its shapes match, else reported, never broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

import farebox
from farebox import doctor, metering, patching, safety
from farebox.sdks import Target
from farebox.sdks import openai as openai_file
from tests.fakes.provider import FakeProvider
from tests.instrumentation import processes
from tests.instrumentation.recorder import Recorder

MESSAGES: Any = [{"role": "user", "content": "What does a ride cost?"}]
KIND = openai._base_client.SyncAPIClient


def chat(provider: FakeProvider) -> Any:
    client = openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k", max_retries=0)
    return client.chat.completions.create(model="gpt-4o", messages=MESSAGES)


def renamed(monkeypatch: pytest.MonkeyPatch, attribute: str) -> None:
    """Have the SDK file look for a method by a name that this version of the SDK does not have."""
    farebox.uninstrument()
    targets = (Target("openai._base_client", attribute), *openai_file.TARGETS[1:])
    monkeypatch.setattr(openai_file, "TARGETS", targets)
    assert farebox.instrument()


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("99.0.0", "newer than the tested versions; it is patched because its shapes match"),
        ("1.39.9", "older than the tested versions; it is patched because its shapes match"),
        ("3.52.99", ""),
        ("1.40.0", ""),
    ],
)
def test_a_version_that_is_not_tested_is_patched_when_its_shapes_match(
    tmp_path: Path, version: str, message: str
) -> None:
    metadata = tmp_path / "path" / f"openai-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: openai\nVersion: {version}\n")
    (metadata / "top_level.txt").write_text("openai\n")
    environ = processes.environment(
        tmp_path, PYTHONPATH=str(metadata.parent), FAREBOX_INSTRUMENT="openai", FAREBOX_ENDPOINT="http://127.0.0.1:9"
    )

    done = processes.run("import sys; from farebox import doctor; sys.exit(doctor.doctor(['--json']))", environ)

    [found] = [sdk for sdk in json.loads(done.stdout)["sdks"] if sdk["sdk"] == "openai"]
    assert (found["version"], found["state"], found["message"]) == (version, "ok", message)
    assert found["not_patched"] == {}


def test_a_renamed_method_is_reported_and_the_calls_go_on(
    provider: FakeProvider, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = vars(KIND)["request"]
    renamed(monkeypatch, "SyncAPIClient.send_request")

    answer = chat(provider)

    found = doctor._sdk("openai", "openai", imports=True)
    assert answer.usage.total_tokens == 2306
    assert recorder.spans() == []
    assert not safety.faults
    assert found.state == "broken"
    assert found.message == "some calls are not metered"
    assert found.cure == "Install a version that is tested: pip install 'openai==3.52.*'"
    assert found.not_patched == {
        "openai._base_client.SyncAPIClient.send_request": (
            "openai._base_client has no callable SyncAPIClient.send_request"
        )
    }
    farebox.uninstrument()
    assert getattr(vars(KIND)["request"], "__wrapped__", vars(KIND)["request"]) is getattr(
        before, "__wrapped__", before
    )


@pytest.mark.parametrize("attribute", ["SyncClientOfTomorrow.request", "SyncAPIClient._limits", "MISSING_STREAM"])
def test_a_class_that_is_gone_and_a_name_that_is_no_method_are_left_alone(
    provider: FakeProvider, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, attribute: str
) -> None:
    renamed(monkeypatch, attribute)

    assert chat(provider).id
    assert [patch.state for patch in patching.patches()["openai"]][:2] == ["missing", "patched"]
    assert not safety.faults


def test_a_method_that_takes_other_arguments_is_called_as_it_was(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ClientOfTomorrow:
        def request(self, method: str, path: str) -> str:
            return f"{method} {path}"

    original = ClientOfTomorrow.request
    wrapper, _ = metering.wrapped("openai", original)
    monkeypatch.setattr(ClientOfTomorrow, "request", wrapper)

    assert ClientOfTomorrow().request("post", "/chat/completions") == "post /chat/completions"
    with pytest.raises(TypeError, match="path"):
        ClientOfTomorrow().request("post")  # type: ignore[call-arg]
    assert recorder.spans() == []
    assert safety.faults == {"farebox.sdks.openai.read_request": 2}


def test_an_answer_of_another_shape_is_a_span_without_what_it_does_not_say(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answer:
        consumption = 12

    class Client(openai.OpenAI):
        def request(self, *args: Any, **kwargs: Any) -> Any:
            return Answer()

    monkeypatch.setattr(Client, "request", metering.wrapped("openai", Client.request)[0])

    answer = Client(api_key="k").chat.completions.create(model="gpt-4o", messages=MESSAGES)

    assert isinstance(answer, Answer)
    assert recorder.one().attributes["gen_ai.request.model"] == "gpt-4o"
    assert recorder.usage() == {}
    assert not safety.faults
