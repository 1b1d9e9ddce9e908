from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import farebox
from farebox import config, exporting, safety
from tests.fakes.provider import FakeProvider
from tests.instrumentation.recorder import Recorder


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the machine reaches a test, and no test writes into the home folder."""
    import os

    for name in list(os.environ):
        if name.startswith(("FAREBOX_", "OTEL_", "OPENAI_", "ANTHROPIC_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FAREBOX_BUFFER_DIR", str(tmp_path / "buffer"))
    safety.faults.clear()
    safety.losses.clear()


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def recorder(_environment: None) -> Iterator[Recorder]:
    """Metering is on, and the recorder gets what would be sent."""
    kept = Recorder()
    exporting.start(config.read(), kept)
    assert farebox.instrument()
    yield kept
    farebox.uninstrument()
    exporting.stop()


@pytest.fixture
def no_faults(recorder: Recorder) -> Iterator[None]:
    """A fault of ours, which the app would not see, fails the test."""
    yield
    assert not safety.faults, dict(safety.faults)
