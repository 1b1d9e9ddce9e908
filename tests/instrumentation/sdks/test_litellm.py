"""Calls of the real `litellm` in an environment of its own; each case stands in `litellm_calls`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.instrumentation.cells import SEEN, Cell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[3]
REQUIREMENTS = ROOT / "tests" / "instrumentation" / "litellm.txt"
ENVIRONMENT = ROOT / ".venvs" / "litellm"
INSTALL_LIMIT_S = 480
RUN_LIMIT_S = 180
FAULTS_LIMIT_S = 540

Case = dict[str, Any]

CLAUDE = {
    "gen_ai.usage.input_tokens": 6010,
    "gen_ai.usage.cache_read.input_tokens": 5000,
    "gen_ai.usage.cache_write.input_tokens": 1000,
    "farebox.usage.cache_write_5m.input_tokens": 700,
    "farebox.usage.cache_write_1h.input_tokens": 300,
    "gen_ai.usage.output_tokens": 200,
    "gen_ai.usage.reasoning.output_tokens": 60,
}
GPT = {
    "gen_ai.usage.input_tokens": 2006,
    "gen_ai.usage.cache_read.input_tokens": 1920,
    "gen_ai.usage.audio.input_tokens": 0,
    "gen_ai.usage.output_tokens": 300,
    "gen_ai.usage.reasoning.output_tokens": 100,
    "gen_ai.usage.audio.output_tokens": 0,
}
RESPONSES = {
    "gen_ai.usage.input_tokens": 3000,
    "gen_ai.usage.cache_read.input_tokens": 1000,
    "gen_ai.usage.cache_write.input_tokens": 50,
    "farebox.usage.cache_write_30m.input_tokens": 30,
    "farebox.usage.cache_write_12h.input_tokens": 20,
    "gen_ai.usage.output_tokens": 400,
    "gen_ai.usage.reasoning.output_tokens": 150,
}
TEXT = {"gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 16}
IMAGES = {
    "gen_ai.usage.input_tokens": 350,
    "gen_ai.usage.image.input_tokens": 300,
    "gen_ai.usage.output_tokens": 1056,
    "gen_ai.usage.image.output_tokens": 1056,
}
NONE: dict[str, Any] = {}

#: Case → its spans, in the order in which they end: whose they are, and what was used.
USES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "completion": [("litellm", CLAUDE)],
    "acompletion": [("litellm", CLAUDE)],
    "stream": [("litellm", CLAUDE)],
    "stream_with_usage_for_the_app": [("litellm", CLAUDE)],
    "astream": [("litellm", CLAUDE)],
    "rerank": [("litellm", {"farebox.usage.search_units": 1})] * 2,
    "responses_by_bridge": [("litellm", CLAUDE)],
    "openai_completion": [("openai", GPT)],
    "openai_acompletion": [("openai", GPT)],
    "openai_stream": [("openai", GPT)],
    "openai_astream": [("openai", GPT)],
    "text_completion": [("openai", TEXT)] * 2,
    "embedding": [("openai", {"gen_ai.usage.input_tokens": 8})] * 2,
    "images": [("openai", IMAGES)] * 2,
    "images_without_tokens": [("openai", {"farebox.usage.output_images": 2})],
    "responses": [("litellm", RESPONSES)] * 2,
    "responses_stream": [("litellm", RESPONSES)] * 2,
    "transcription": [("openai", {"farebox.usage.input_seconds": 9.0})],
    "speech": [("openai", {"farebox.usage.input_characters": 5})],
    "fallback": [("litellm", NONE), ("openai", GPT)],
    "fallback_inside_a_loop": [("litellm", NONE), ("openai", GPT)],
    "afallback": [("openai", NONE), ("litellm", CLAUDE)],
    "retry": [("litellm", CLAUDE)],
    "openai_retry": [("openai", GPT)],
    "router": [("litellm", CLAUDE), ("openai", GPT)],
    "router_fallback": [("litellm", NONE), ("openai", GPT)],
    "batch_completion": [("litellm", CLAUDE)] * 2,
    "cache": [("litellm", CLAUDE)],
    "mock": [],
    "suppressed": [],
    "attributed": [("litellm", CLAUDE), ("openai", GPT), ("openai", GPT)],
    "off_and_on_again": [("litellm", CLAUDE)],
}
#: Case → outcome of its only span, and the exception that the app got.
ENDINGS: dict[str, tuple[str, str | None]] = {
    "stream_closed": ("closed_early", None),
    "stream_dropped": ("dropped", None),
    "stream_lost": ("error", "MidStreamFallbackError"),
    "astream_closed": ("closed_early", None),
    "astream_dropped": ("dropped", None),
    "astream_lost": ("error", "MidStreamFallbackError"),
    "astream_cancelled": ("cancelled", None),
    "error": ("error", "BadRequestError"),
    "aerror": ("error", "BadRequestError"),
    "openai_error": ("error", "BadRequestError"),
}


@pytest.fixture(scope="session")
def litellm_python() -> Path:
    """The interpreter of the environment, made anew when the file that lists it has changed."""
    python = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin") / "python"
    stamp, state = ENVIRONMENT / "farebox-setup.txt", hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == f"{sys.version} {state}":
        return python
    venv.create(ENVIRONMENT, with_pip=True, clear=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(REQUIREMENTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False)
    assert done.returncode == 0, f"litellm cannot be installed:\n{done.stderr[-2000:]}"
    stamp.write_text(f"{sys.version} {state}")
    return python


def environment(buffer: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FAREBOX_", "OTEL_", "OPENAI_"))}
    return {
        **kept,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'instrumentation'}",
        "FAREBOX_BUFFER_DIR": str(buffer),
    }


@pytest.fixture(scope="session")
def report(litellm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the cases gave, all in one process."""
    command = [str(litellm_python), "-m", "tests.instrumentation.sdks.litellm_calls"]
    done = subprocess.run(
        command,
        env=environment(tmp_path_factory.mktemp("buffer")),
        cwd=ROOT, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@pytest.fixture(autouse=True, scope="session")
def _cells_of_the_matrix(report: dict[str, Any]) -> None:
    SEEN.update(cell for cell in (Cell(*known) for known in report["cells"]) if cell.sdk == "litellm")


@pytest.fixture
def cases(report: dict[str, Any]) -> dict[str, Case]:
    found: dict[str, Case] = report["cases"]
    return found


def used(span: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in span["attributes"].items() if ".usage." in name}


def sdk_of(span: dict[str, Any]) -> str:
    return str(span["scope"]).removeprefix("farebox.sdks.")


@pytest.mark.parametrize("name", USES)
def test_each_physical_call_is_one_span_of_whoever_made_it(cases: dict[str, Case], name: str) -> None:
    case = cases[name]

    assert case["error"] is None, case["trace"]
    assert [(sdk_of(span), used(span)) for span in case["spans"]] == USES[name]
    assert case["faults"] == {}


@pytest.mark.parametrize("name", ENDINGS)
def test_what_does_not_complete_is_one_span_that_says_so(cases: dict[str, Case], name: str) -> None:
    case = cases[name]

    outcome, raised = ENDINGS[name]
    assert [span["attributes"]["farebox.outcome"] for span in case["spans"]] == [outcome]
    assert used(case["spans"][0]) == {}
    assert case["error"] == raised
    assert case["faults"] == {}


def test_every_case_is_judged(cases: dict[str, Case]) -> None:
    assert sorted(cases) == sorted([*USES, *ENDINGS, "fault_of_ours"])


def test_a_span_of_ours_says_provider_models_place_and_stated_cost(cases: dict[str, Case]) -> None:
    span = cases["completion"]["spans"][0]

    assert span["name"] == "chat claude-sonnet-4-5"
    attributes = span["attributes"]
    assert attributes["gen_ai.provider.name"] == "anthropic"
    assert attributes["gen_ai.request.model"] == "claude-sonnet-4-5"
    assert attributes["gen_ai.response.model"] == "claude-sonnet-4-5-20250929"
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert attributes["server.address"] == "127.0.0.1"
    assert attributes["farebox.region"] == "us"
    assert attributes["farebox.service_tier"] == "standard"
    assert float(attributes["farebox.stated_cost"]) == pytest.approx(0.008955)


def test_a_span_of_the_other_sdk_has_its_own_detail(cases: dict[str, Case]) -> None:
    attributes = cases["openai_stream"]["spans"][0]["attributes"]

    assert attributes["gen_ai.response.model"] == "gpt-4o-2024-08-06"
    assert attributes["gen_ai.request.stream"] is True
    assert "farebox.stated_cost" not in attributes


def test_the_requests_that_were_made_are_those_that_are_booked(cases: dict[str, Case]) -> None:
    """A cached answer and a mock are none."""
    made = {name: cases[name]["served"] for name in ("completion", "openai_astream", "fallback", "cache", "mock")}

    assert made == {"completion": 1, "openai_astream": 1, "fallback": 2, "cache": 1, "mock": 0}


def test_who_calls_pays_whoever_makes_the_call(cases: dict[str, Case]) -> None:
    assert [span["attributes"]["user.id"] for span in cases["attributed"]["spans"]] == ["ada", "ada", "ada"]


def test_a_fault_of_ours_changes_nothing_for_the_app(cases: dict[str, Case]) -> None:
    assert cases["fault_of_ours"]["error"] is None, cases["fault_of_ours"]["trace"]


def test_every_hook_that_is_made_to_raise_changes_nothing_for_the_app(litellm_python: Path, tmp_path: Path) -> None:
    """The fault injection of `test_faults`, for calls of LiteLLM itself and for those that go on to openai."""
    local = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "CRITICAL", "AWS_EC2_METADATA_DISABLED": "true"}
    tests = ROOT / "tests" / "instrumentation" / "sdks" / "litellm_faults.py"
    own = ["--confcutdir", "tests/instrumentation", "-p", "no:cacheprovider", "-q", "--tb=short", "--show-capture=no"]

    done = subprocess.run(
        [str(litellm_python), "-m", "pytest", *own, str(tests)],
        env=environment(tmp_path) | local,
        cwd=ROOT, capture_output=True, text=True, timeout=FAULTS_LIMIT_S, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert re.search(r"\d+ passed", done.stdout), done.stdout
