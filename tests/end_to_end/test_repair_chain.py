"""The repair of a model that nobody knew, from its first span to its price."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from sqlalchemy import Engine, text

from farebox_collector.booking import Ledger, book_batches
from farebox_collector.spans import KIND_CLIENT, Batch, Sender, Span
from farebox_ledger.commands.maintain import maintain
from farebox_ledger.commands.reprice import reprice
from farebox_ledger.commands.rollups import rollups
from farebox_ledger.jobs import KINDS, run_jobs
from farebox_ledger.pricing.suggestions import Suggestions
from farebox_ledger.repair import Repair, book_with, repair, rows_of, tried
from farebox_ledger.repricing import Transition, enqueue_reprice, outcome_of, preview
from farebox_ledger.store.aliases import AliasDraft, AliasTarget
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.jobs import get_job
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.prices import ensure_shipped_prices, load_book
from farebox_ledger.store.querying import UsageFilter, charge_versions, list_usage
from farebox_ledger.store.repricing_rows import RowsToPrice
from farebox_ledger.store.rollups import check_rollups
from farebox_ledger.store.scope import AllOrganizations, OrgScope
from farebox_ledger.store.summaries import SummaryQuery, summarize
from farebox_ledger.store.unpriced import GroupName, unpriced_groups
from farebox_ledger.usage import org_id_of

EVERYBODY = AllOrganizations()
ACME = OrgScope(org_id_of("acme"))
NOON_US = 1_785_585_600_000_000  # 2026-08-01T12:00:00Z
GROUP = GroupName(provider="azure.ai.openai", model="our-gpt4o-mini", reason="unknown_model")
COST = 210_000_000  # Azure's gpt-4o-mini: 1,000 tokens at 0.15 and 100 at 0.6 dollars per million


def span(number: int, **more: Any) -> Span:
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.request.model": "our-gpt4o-mini",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 100,
    }
    end_us = NOON_US + number * 1_000_000
    return Span(
        trace_id=number.to_bytes(16, "big"),
        span_id=number.to_bytes(8, "big"),
        parent_span_id=None,
        scope="test.emitter",
        kind=KIND_CLIENT,
        start_us=end_us - 500_000,
        end_us=end_us,
        is_error=False,
        status_message=None,
        attributes={name: value for name, value in (attributes | more).items() if value is not None},
    )


@pytest.fixture
def books(engine: Engine) -> Engine:
    """Four calls to a deployment that no price knows, booked by the pipeline; the last one broke off."""
    ensure_shipped_prices(engine)
    broken_off = {"gen_ai.usage.output_tokens": None, "gen_ai.request.stream": True}
    with transaction(engine, EVERYBODY, write=True) as connection:
        create_organization(connection, "acme")
        spans = [span(1), span(2), span(3), span(4, **broken_off)]
        batch = Batch(1, Sender(ACME.org_id, "acme"), NOON_US, spans, 1)
        book_batches(connection, [batch], Ledger("collector", 1, load_book(connection)))
    return engine


def charges(engine: Engine) -> list[tuple[Any, ...]]:
    with transaction(engine, EVERYBODY) as connection:
        rows = list_usage(connection, ACME, UsageFilter(), limit=10).rows
    return [(row.charge.status, row.charge.reason, row.charge.cost_pico, row.charge_version) for row in reversed(rows)]


REPAIRED = [
    ("billed", None, COST, 2),
    ("billed", None, COST, 2),
    ("billed", None, COST, 2),
    ("partial", "stream_without_usage", 150_000_000, 2),
]


def alias() -> AliasDraft:
    return AliasDraft(
        alias="our-gpt4o-mini", provider="azure.ai.openai", target=AliasTarget(target_model="gpt-4o-mini")
    )


def repaired(engine: Engine) -> Repair:
    with transaction(engine, EVERYBODY, write=True) as connection:
        return repair(connection, ACME, GROUP, alias())


def test_a_model_that_nobody_knew_is_billed_after_its_alias(books: Engine) -> None:
    # It arrives unpriced, with its reason, in a group with a suggestion.
    assert charges(books) == [("unpriced", "unknown_model", None, 1)] * 4
    with transaction(books, EVERYBODY) as connection:
        (group,) = unpriced_groups(connection, ACME)
        suggested = Suggestions(load_book(connection).prices()).nearest(group.name.provider, group.name.model)
        before = summarize(connection, ACME, SummaryQuery())
    assert (group.name, group.rows, group.total_tokens) == (GROUP, 4, 4300)
    assert (group.first_seen_us, group.last_seen_us) == (NOON_US + 1_000_000, NOON_US + 4_000_000)
    assert "gpt-4o-mini" in [one.model for one in suggested]
    assert before.is_complete is False

    # A trial shows what the alias would change, and leaves nothing behind.
    with transaction(books, ACME, write=True) as connection:
        trial = tried(connection, ACME, GROUP, alias())
    with transaction(books, ACME) as connection:
        tried_out = preview(connection, ACME, rows_of(GROUP), book_with(connection, trial))
    assert tried_out.transitions == [Transition("unpriced", "billed", 3), Transition("unpriced", "partial", 1)]
    assert charges(books) == [("unpriced", "unknown_model", None, 1)] * 4

    # The alias and its job: the rows are billed, what was aborted stays partial.
    made = repaired(books)
    assert run_jobs(books, threading.Event(), KINDS, until_idle=True) == 0
    assert charges(books) == REPAIRED
    with transaction(books, EVERYBODY) as connection:
        outcome = outcome_of(get_job(connection, ACME, made.job.id))
        row = list_usage(connection, ACME, UsageFilter(), limit=10).rows[-1]
        (old,) = charge_versions(connection, ACME, ACME.org_id, row.day, row.usage_id)
        assert unpriced_groups(connection, ACME) == []
        assert check_rollups(connection, EVERYBODY) == []
        after = summarize(connection, ACME, SummaryQuery()).groups
    assert outcome is not None
    assert (outcome.transitions, outcome.amounts) == (tried_out.transitions, tried_out.amounts)
    assert (old.version, old.charge.status, old.charge.reason) == (1, "unpriced", "unknown_model")
    assert (old.cause, old.facts) == (f"reprice:{made.job.id}", None)
    assert row.charge.price is not None
    assert (row.charge.price.model, row.charge.price.match_rule) == ("gpt-4o-mini", "alias:exact")
    assert sum(one.amount_pico for one in row.charge.lines) == COST
    assert [(one.cost_pico, one.unpriced_rows, one.partial_rows) for one in after] == [(3 * COST + 150_000_000, 0, 1)]

    # A second run changes nothing.
    with transaction(books, EVERYBODY, write=True) as connection:
        again = enqueue_reprice(connection, EVERYBODY, RowsToPrice()).id
    run_jobs(books, threading.Event(), KINDS, until_idle=True)
    with transaction(books, EVERYBODY) as connection:
        second = outcome_of(get_job(connection, EVERYBODY, again))
    assert second is not None
    assert (second.rows_seen, second.rows_changed) == (1, 0)
    assert charges(books) == REPAIRED


@pytest.fixture
def commanded(books: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("FAREBOX_DATABASE_URL", database_url)
    return books


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_the_commands_do_the_same(commanded: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert repaired(commanded).alias is not None

    assert reprice(["--dry-run", "--org", "acme", "--model", "our-gpt4o-mini", "--json"]) == 0
    dry = printed(capsys)
    assert (dry["dry_run"], dry["rows_seen"], dry["rows_changed"]) == (True, 4, 4)
    assert dry["amounts"] == [{"currency": "USD", "before": "0", "after": "0.00078", "difference": "0.00078"}]
    assert charges(commanded) == [("unpriced", "unknown_model", None, 1)] * 4

    assert maintain(["--once"]) == 0
    assert charges(commanded) == REPAIRED
    assert reprice([]) == 0
    assert capsys.readouterr().out == "1 rows looked at, 0 changed\n"
    assert rollups(["check"]) == 0
    assert capsys.readouterr().out == "the sums of 1 days are those of their rows\n"


def test_sums_that_differ_are_named_and_rebuilt(commanded: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    with transaction(commanded, EVERYBODY, write=True) as connection:
        connection.execute(text("UPDATE rollup_day_reason SET requests = requests + 1"))

    assert rollups(["check"]) == 1
    found = capsys.readouterr()
    assert "rollup_day_reason" in found.out
    assert "requests is 5 and should be 4" in found.out
    assert found.err == "farebox rollups: 1 sums differ from their rows: run `farebox rollups rebuild`\n"
    assert rollups(["rebuild", "--first-day", "2026-08-01", "--last-day", "2026-08-01", "--json"]) == 0
    assert printed(capsys) == {"days": 1}
    assert rollups(["check", "--json"]) == 0
    assert printed(capsys) == {"days": 1, "differences": []}


def test_wrong_use_is_one_line_that_names_the_cure(commanded: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert reprice(["--org", "nobody"]) == 1
    assert reprice(["--billing-status", "billed"]) == 1

    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == "farebox reprice: organization 'nobody' does not exist; `farebox orgs list` shows which do"
    assert errors[1] == (
        "farebox reprice: billing_status: billed rows are priced; they change only with include_priced"
    )
    for arguments in (["--start", "2026-08-01"], ["--reason", "whim"]):
        with pytest.raises(SystemExit) as refused:
            reprice(arguments)
        assert refused.value.code == 2
