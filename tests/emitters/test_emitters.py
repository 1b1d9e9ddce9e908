"""Foreign emitters as their users run them: each call is one billed row with the provider's tokens.

Each emitter's program runs in an environment of its own, below `.venvs`, with the versions of `constraints/emitters/`,
against a fake provider, and exports to a real collector.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from farebox_ledger.store.engine import open_engine
from tests.collector.running import Running, config_for, rows, running
from tests.fakes.bedrock import FakeBedrock
from tests.fakes.provider import FakeProvider

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]

Call: TypeAlias = tuple[str, int, int, int]
"""Model, input tokens, those of them read from the cache, output tokens."""

OPENAI: list[Call] = [
    ("gpt-4o-2024-08-06", 2006, 1920, 300),
    ("gpt-4o-mini-2024-07-18", 2006, 1920, 300),
    ("gpt-5", 3000, 1000, 400),
    ("text-embedding-3-small", 8, 0, 0),
    ("gpt-4o-2024-08-06", 2006, 1920, 300),
    ("gpt-4o-2024-08-06", 2006, 1920, 300),
]
ANTHROPIC: list[Call] = [("claude-sonnet-4-5-20250929", 6010, 5000, 200)] * 4
BEDROCK: list[Call] = [
    ("anthropic.claude-sonnet-4-5-20250929-v1:0", 6010, 5000, 200),
    ("anthropic.claude-sonnet-4-5-20250929-v1:0", 6010, 5000, 200),
    # Of an invoked model's body it reads no cache counts, so nobody can know of them.
    ("anthropic.claude-sonnet-4-5-20250929-v1:0", 10, 0, 200),
]

EMITTERS: dict[str, list[Call]] = {
    "anthropic_native": ANTHROPIC,
    "farebox": ANTHROPIC,
    "openinference": [*OPENAI, *ANTHROPIC],
    "openlit": [*OPENAI, *ANTHROPIC],
    "openllmetry": [*OPENAI, *ANTHROPIC],
    "otel_botocore": BEDROCK,
    "otel_genai": [*OPENAI, *ANTHROPIC],
    # It knows no Responses API, and tells no cache reads.
    "otel_openai_v2": [(model, count, 0, written) for model, count, _, written in OPENAI if model != "gpt-5"],
    "pydantic_ai": [OPENAI[0], ANTHROPIC[0]],
}


@pytest.mark.parametrize("emitter", sorted(EMITTERS))
def test_each_call_behind_an_application_is_one_row_with_the_true_tokens(emitter: str, tmp_path: Path) -> None:
    with line(emitter, tmp_path, INSIDE="1") as collector:
        assert billed(tmp_path) == Counter(EMITTERS[emitter])
        assert collector.counters()["quarantined"] == 0


@pytest.mark.parametrize("emitter", sorted(EMITTERS))
def test_each_call_of_its_own_is_one_row_with_the_true_tokens(emitter: str, tmp_path: Path) -> None:
    """Without a span around the calls, two libraries that tell of one begin a trace each."""
    with line(emitter, tmp_path, INSIDE="0"):
        assert billed(tmp_path) == Counter(EMITTERS[emitter])


def test_a_report_that_hides_the_response_is_billed_beside_another_and_says_so(tmp_path: Path) -> None:
    """Of anthropic's streams out of any trace only the provider's id could say that the two reports are one call."""
    with line("openinference", tmp_path, INSIDE="0", OPENINFERENCE_HIDE_OUTPUTS="true"):
        assert billed(tmp_path) == Counter([*EMITTERS["openinference"], ANTHROPIC[0]])
        engine = open_engine(f"sqlite:///{tmp_path / 'farebox.db'}")
        found = rows(engine, "billing_status", "model", "dialect", "usage_details")
        engine.dispose()
    told = [(dialect, details) for status, model, dialect, details in found if (status, model) == BILLED_CLAUDE]
    assert [details for dialect, details in told if dialect == "openinference"] == ['{"usage_rule":"response_unnamed"}']
    assert len(told) == len(ANTHROPIC) + 1


BILLED_CLAUDE = ("billed", ANTHROPIC[0][0])


@contextmanager
def line(emitter: str, folder: Path, **environment: str) -> Iterator[Running]:
    """Run the emitter's program to its end, and wait until all is booked."""
    fake = FakeBedrock() if emitter == "otel_botocore" else FakeProvider()
    with fake, running(config_for(folder)) as collector:
        given = {name: value for name, value in os.environ.items() if not name.startswith(("FAREBOX_", "OTEL_"))}
        address = f"http://127.0.0.1:{collector.http.port}"
        ways = {"PROVIDER": fake.url, "COLLECTOR": address}
        if emitter == "farebox":
            ways |= {"FAREBOX_ENABLED": "1", "FAREBOX_ENDPOINT": address, "FAREBOX_BUFFER_DIR": str(folder / "buffer")}
        done = subprocess.run(
            [python_of(emitter), "-m", f"tests.emitters.apps.{emitter}_app"],
            cwd=ROOT,
            env=given | ways | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert {served.status for served in fake.served} == {200}
        collector.wait_until_booked()
        yield collector


def python_of(emitter: str) -> Path:
    """Make the emitter's environment where it is missing, and name its interpreter."""
    emitter = "anthropic_native" if emitter == "farebox" else emitter  # it is in all of them
    made = subprocess.run([sys.executable, "run.py", "emitter", emitter], cwd=ROOT, timeout=500, check=False)
    assert made.returncode == 0, f"the environment of {emitter} could not be made; the reason stands above"
    return ROOT / ".venvs" / f"emitter-{emitter}" / Path(sys.executable).parent.name / "python"


def billed(folder: Path) -> Counter[Call]:
    engine = open_engine(f"sqlite:///{folder / 'farebox.db'}")
    columns = ("billing_status", "model", "input_tokens", "cache_read_input_tokens", "output_tokens")
    found = rows(engine, *columns)
    engine.dispose()
    assert {status for status, *_ in found} <= {"billed", "suppressed"}
    return Counter(
        (model, count, read or 0, written or 0) for status, model, count, read, written in found if status == "billed"
    )
