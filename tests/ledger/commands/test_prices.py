from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from farebox_ledger.commands.prices import prices

CALL = {"provider": "openai", "model": "gpt-4o", "usage": {"input_tokens": 1000, "output_tokens": 500}}


@pytest.fixture(autouse=True)
def database(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREBOX_DATABASE_URL", sqlite_url)


def test_quote_prices_a_file_line_by_line(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    file = tmp_path / "calls.jsonl"
    file.write_text("\n".join(json.dumps({**CALL, "id": number}) for number in range(3)) + "\n\n")

    assert prices(["quote", str(file)]) == 0

    answers = lines(capfdbinary)
    assert [(answer["id"], answer["cost"], answer["status"]) for answer in answers] == [
        (0, "0.0075", "billed"),
        (1, "0.0075", "billed"),
        (2, "0.0075", "billed"),
    ]


def test_a_bad_line_is_answered_with_its_id_and_field_and_the_others_go_on(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    file = tmp_path / "calls.jsonl"
    bad = {"id": "bad", "provider": "openai", "model": "gpt-4o", "usage": {"input_tokens": "many"}}
    file.write_text("\n".join(json.dumps(line) for line in ({**CALL, "id": 1}, bad, {**CALL, "id": 3})))

    assert prices(["quote", str(file)]) == 1

    first, second, third = lines(capfdbinary)
    assert (first["cost"], third["cost"]) == ("0.0075", "0.0075")
    assert second["id"] == "bad"
    assert second["error"].startswith("usage.input_tokens: ")


def test_quote_reads_standard_input(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(CALL).encode())))

    assert prices(["quote", "-"]) == 0

    assert [answer["cost"] for answer in lines(capfdbinary)] == ["0.0075"]


def test_a_program_that_asks_through_a_pipe_gets_each_answer_at_once() -> None:
    quoting = [
        sys.executable,
        "-c",
        "import sys; from farebox_ledger.commands.prices import prices; sys.exit(prices(['quote', '-']))",
    ]
    with subprocess.Popen(quoting, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(2):
            process.stdin.write(json.dumps({**CALL, "id": number}).encode() + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == number
        process.stdin.close()

        assert process.wait(timeout=30) == 0


def test_a_reader_that_has_had_enough_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    file.write_text((json.dumps(CALL) + "\n") * 5000)
    quoting = [
        sys.executable,
        "-c",
        f"from farebox_ledger.commands.prices import prices; prices(['quote', {str(file)!r}])",
    ]

    with subprocess.Popen(quoting, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()

        assert process.stderr.read() == b""


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert prices(["quote", "/no/such/file"]) == 1

    assert capsys.readouterr().err == (
        "farebox prices: FILE: /no/such/file cannot be read: No such file or directory\n"
    )


def test_resolve_shows_the_price_and_how_it_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert prices(["resolve", "azure", "gpt-5.1", "--region", "eu", "--json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer["price"]["provider"] == "azure.ai.openai"
    assert (answer["price"]["model"], answer["price"]["match_rule"]) == ("eu/gpt-5.1", "with_region")
    assert answer["rates"]["tiers"]["standard"]["rates"]["input_tokens"] == "0.000001375"
    assert answer["currency"] == "USD"


def test_resolve_says_why_a_model_has_no_price(capsys: pytest.CaptureFixture[str]) -> None:
    assert prices(["resolve", "openai", "my-gpt-4o-proxy", "--json"]) == 1

    answer = json.loads(capsys.readouterr().out)
    assert (answer["reason"], answer["tried"]) == ("unknown_model", ["openai/my-gpt-4o-proxy (exact)"])


def test_resolve_for_an_organization_that_is_not_there_shows_no_price(capsys: pytest.CaptureFixture[str]) -> None:
    assert prices(["resolve", "openai", "gpt-4o", "--org", "nobody"]) == 1

    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (
        "",
        "farebox prices: organization 'nobody' does not exist; `farebox orgs list` shows which do\n",
    )


def test_resolve_without_a_provider_asks_for_the_models_maker(capsys: pytest.CaptureFixture[str]) -> None:
    assert prices(["resolve", "", "claude-haiku-5-5", "--at", "2026-11-03T12:00:00Z"]) == 0

    assert "  provider: anthropic" in capsys.readouterr().out.splitlines()


def test_list_shows_the_prices_that_are_searched_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert prices(["list", "--provider", "anthropic", "--search", "haiku-5", "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert {(price["provider"], price["model"]) for price in found} == {("anthropic", "claude-haiku-5-5")}
    (listed,) = [price for price in found if price["source"] == "litellm"]
    assert listed["rates"]["tiers"]["standard"]["bands"][0]["above_tokens"] == 100_000


def test_list_says_when_there_is_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert prices(["list", "--limit", "2"]) == 0

    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert "the first 2" in printed.err


def test_disagreements_of_the_catalogs_are_listed_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert prices(["disagreements", "--provider", "xai", "--at", "2026-11-01T00:00:00Z"]) == 0

    printed = capsys.readouterr()
    (line,) = [line for line in printed.out.splitlines() if " grok-code-fast-1 " in line and " output_tokens  " in line]
    assert line.split() == [
        "x_ai", "grok-code-fast-1", "output_tokens", "litellm", "0.000002", "genai-prices", "0.0000015",
    ]  # fmt: skip
    assert "models that both catalogs price on 2026-11-01T00:00:00Z, they differ on " in printed.err


def test_disagreements_come_as_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert prices(["disagreements", "--at", "2026-11-01T00:00:00Z", "--json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert (answer["at"], answer["compared"], answer["disagreeing"]) == ("2026-11-01T00:00:00Z", 773, 270)
    assert {
        "provider": "mistral_ai",
        "model": "mistral-large-latest",
        "tier": "standard",
        "above_tokens": 0,
        "dimension": "input_tokens",
        "catalog": "0.0000005",
        "archive": "0.000002",
    } in answer["disagreements"]


def test_list_shows_the_times_of_a_price(capsys: pytest.CaptureFixture[str]) -> None:
    assert prices(["list", "--provider", "openai", "--search", "o3-2025-04-16"]) == 0

    lines = capsys.readouterr().out.splitlines()
    times = [line.partition("genai-prices")[2] or line.partition("litellm")[2] for line in lines]
    assert times == [
        "  until 2025-06-10",
        "  from 2025-06-10  until 2026-10-12",
        "  from 2026-10-12  until 2026-10-14",
        "  from 2026-10-14",
        "  from 2025-06-10",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["resolve", "openai"],
        ["resolve", "openai", "gpt-4o", "--at", "2026-11-03T12:00:00"],
        ["resolve", "openai", "gpt-4o", "--at", "soon"],
        ["list", "--limit", "0"],
        ["quote"],
    ],
)
def test_wrong_use_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        prices(arguments)

    assert ended.value.code == 2
    assert "usage: farebox prices" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["list", "--help"], ["resolve", "--help"], ["disagreements", "--help"], ["quote", "--help"]],
)
def test_every_command_has_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        prices(arguments)

    assert ended.value.code == 0
    assert "usage: farebox prices" in capsys.readouterr().out


def lines(captured: pytest.CaptureFixture[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in captured.readouterr().out.splitlines()]
