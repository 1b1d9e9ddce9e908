"""The wheel, alone in a clean environment: nothing when off, a span when on."""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path

import pytest

from tests.end_to_end.line import ROOT, clean_environment
from tests.fakes.otlp import FakeCollector
from tests.fakes.provider import FakeProvider

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LOADED = "import sys, json; print(json.dumps(sorted(sys.modules)))"
ONE_CALL = """
import openai
client = openai.OpenAI(max_retries=0)
client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
"""


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter whose environment holds the built wheel, its base dependencies, the openai SDK, nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"  # an environment that uv has made has no pip
    build = [str(python), "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = folder.glob("farebox-*.whl")
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel, "openai"],
        check=True,
        timeout=300,
    )
    return python


def run(python: Path, code: str, **environment: str) -> str:
    done = subprocess.run(
        [python, "-c", code],
        check=False,
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("value", [None, "", "0", "false", "off", "no"])
def test_when_off_start_up_imports_nothing_of_ours_or_of_opentelemetry(clean_python: Path, value: str | None) -> None:
    environment = {} if value is None else {"FAREBOX_ENABLED": value}

    loaded = json.loads(run(clean_python, LOADED, **environment))

    tops = {name.partition(".")[0] for name in loaded}
    assert tops.isdisjoint({"farebox", "opentelemetry", "wrapt", "openai", "requests", "google"})


def test_when_on_start_up_still_imports_no_opentelemetry_and_no_sdk(clean_python: Path) -> None:
    loaded = json.loads(run(clean_python, LOADED, FAREBOX_ENABLED="1"))

    tops = {name.partition(".")[0] for name in loaded}
    assert "farebox" in tops
    assert tops.isdisjoint({"opentelemetry", "openai", "requests", "google"})


def test_when_on_a_call_becomes_a_span(clean_python: Path, tmp_path: Path) -> None:
    with FakeProvider() as provider, FakeCollector() as collector:
        run(
            clean_python,
            ONE_CALL,
            FAREBOX_ENABLED="1",
            FAREBOX_ENDPOINT=collector.url,
            FAREBOX_BUFFER_DIR=str(tmp_path),
            OPENAI_API_KEY="sk-test",
            OPENAI_BASE_URL=f"{provider.url}/v1",
        )

        (span,) = collector.spans
        (served,) = provider.served
        assert span["gen_ai.response.id"] == served.response_id
        assert served.usage is not None
        assert span["gen_ai.usage.input_tokens"] == served.usage["prompt_tokens"]
