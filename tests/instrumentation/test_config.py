"""Settings of the app side: every variable, its default, and what a wrong value does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from farebox import config, sending
from tests.fakes.receiver import FakeReceiver


def test_an_empty_environment_gives_the_defaults(tmp_path: Path) -> None:
    assert config.read({"HOME": str(tmp_path)}) == config.Settings(
        endpoint="http://127.0.0.1:4318",
        protocol="http/protobuf",
        ingest_key=None,
        instrument=None,
        disabled_sdks=frozenset(),
        inject_stream_usage=True,
        estimate_tokens=False,
        tracer_provider="private",
        buffer_dir=config.state_folder({"HOME": str(tmp_path)}) / "buffer",
        buffer_max_bytes=67_108_864,
        service=None,
        project=None,
        user=None,
        tags=(),
    )


@pytest.mark.parametrize(
    ("name", "value", "member", "expected"),
    [
        ("FAREBOX_ENDPOINT", "https://collector.example.org:4318/base/", "endpoint", "https://collector.example.org:4318/base"),
        ("FAREBOX_PROTOCOL", "HTTP/protobuf", "protocol", "http/protobuf"),
        ("FAREBOX_INGEST_KEY", " fbk_1 ", "ingest_key", "fbk_1"),
        ("FAREBOX_INSTRUMENT", "OpenAI, anthropic,", "instrument", frozenset({"openai", "anthropic"})),
        ("FAREBOX_INSTRUMENT", " , ", "instrument", None),
        ("FAREBOX_DISABLED_SDKS", "openai", "disabled_sdks", frozenset({"openai"})),
        ("FAREBOX_DISABLED_SDKS", "google-genai", "disabled_sdks", frozenset({"google_genai"})),
        ("FAREBOX_INJECT_STREAM_USAGE", "off", "inject_stream_usage", False),
        ("FAREBOX_INJECT_STREAM_USAGE", "", "inject_stream_usage", True),
        ("FAREBOX_ESTIMATE_TOKENS", "yes", "estimate_tokens", True),
        ("FAREBOX_TRACER_PROVIDER", "global", "tracer_provider", "global"),
        ("FAREBOX_BUFFER_DIR", "/var/lib/x", "buffer_dir", Path("/var/lib/x")),
        ("FAREBOX_BUFFER_MAX_BYTES", "1000", "buffer_max_bytes", 1000),
        ("FAREBOX_BUFFER_MAX_BYTES", "0", "buffer_max_bytes", 0),
        ("FAREBOX_SERVICE", "web", "service", "web"),
        ("FAREBOX_PROJECT", "tram", "project", "tram"),
        ("FAREBOX_USER", "ada", "user", "ada"),
        ("FAREBOX_TAGS", "a, b,,c", "tags", ("a", "b", "c")),
    ],
)  # fmt: skip
def test_each_variable_sets_its_member(name: str, value: str, member: str, expected: Any) -> None:
    assert getattr(config.read({name: value, "HOME": "/home/x"}), member) == expected


def test_grpc_has_a_default_endpoint_of_its_own() -> None:
    assert config.read({"FAREBOX_PROTOCOL": "grpc"}).endpoint == "http://127.0.0.1:4317"


@pytest.mark.parametrize(
    ("name", "value", "member", "expected"),
    [
        ("FAREBOX_ENDPOINT", "collector:4318", "endpoint", "http://127.0.0.1:4318"),
        ("FAREBOX_ENDPOINT", "http://", "endpoint", "http://127.0.0.1:4318"),
        ("FAREBOX_ENDPOINT", "http://host:port", "endpoint", "http://127.0.0.1:4318"),
        ("FAREBOX_PROTOCOL", "http/json", "protocol", "http/protobuf"),
        ("FAREBOX_TRACER_PROVIDER", "none", "tracer_provider", "private"),
        ("FAREBOX_BUFFER_MAX_BYTES", "64M", "buffer_max_bytes", 67_108_864),
        ("FAREBOX_BUFFER_MAX_BYTES", "-1", "buffer_max_bytes", 67_108_864),
        ("FAREBOX_INJECT_STREAM_USAGE", "maybe", "inject_stream_usage", True),
        ("FAREBOX_INGEST_KEY", "clé", "ingest_key", None),
        ("FAREBOX_INSTRUMENT", "opnai", "instrument", frozenset({"opnai"})),
        ("FAREBOX_DISABLED_SDKS", "opnai", "disabled_sdks", frozenset({"opnai"})),
    ],
)
def test_a_wrong_value_is_one_line_and_the_default(
    name: str, value: str, member: str, expected: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert getattr(config.read({name: value}), member) == expected

    assert len(caplog.records) == 1
    assert name in caplog.text


def test_a_wrong_key_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    config.read({"FAREBOX_INGEST_KEY": "clé-secrète"})

    assert "secr" not in caplog.text


def test_the_exporter_settings_of_the_app_are_not_read() -> None:
    asked: list[str] = []

    class Watched(dict[str, str]):
        def get(self, key: str, default: Any = None) -> Any:
            asked.append(key)
            return super().get(key, default)

    config.read(Watched())

    assert "FAREBOX_ENDPOINT" in asked
    assert not [name for name in asked if name.startswith("OTEL_")]


def test_without_grpcio_spans_go_to_the_default_port_of_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    with FakeReceiver() as collector:
        monkeypatch.setattr(sending, "DEFAULT_ENDPOINT", collector.url)

        sender = sending.sender_for(config.read({"FAREBOX_PROTOCOL": "grpc"}))

        assert sender.send(b"", 5.0).verdict is sending.Verdict.ACCEPTED
        sender.close()
