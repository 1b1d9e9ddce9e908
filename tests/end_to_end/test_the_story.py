"""The product's story. Two organizations run the same app; farebox says what each of them spent, on what, and why.

Read this first: it starts what a user starts (`farebox up`, `FAREBOX_ENABLED=1 python app.py`) and asks what an
administrator asks. Only the provider is a fake, which reports the figures of `tests/fakes/usage.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.end_to_end.line import Farebox, Organization, run_app, running_farebox
from tests.fakes.provider import FakeProvider

CALLS = 7  # six answered with usage, one refused with 429

# By hand, from the shipped catalog of litellm 1.109.1 (USD per million tokens) and the provider's figures:
COST_OF = {
    # 86 uncached at 0.15, 1920 cached at 0.075, 300 out at 0.60
    "gpt-4o-mini": Decimal("0.0003369"),
    # 2000 uncached (50 cache writes have no price of their own) at 0.40, 1000 cached at 0.10, 400 out at 1.60
    "gpt-4.1-mini": Decimal("0.00154"),
    # 8 in at 0.02
    "text-embedding-3-small": Decimal("0.00000016"),
    # 10 uncached at 3, 5000 cached at 0.30, 700 written for 5 minutes at 3.75, 300 for 1 hour at 6, 200 out at 15
    "claude-sonnet-4-5": Decimal("0.008955"),
}
COST_PER_RUN = Decimal("0.02012396")


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture(scope="module")
def farebox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farebox]:
    with running_farebox(tmp_path_factory.mktemp("farebox")) as running:
        yield running


@pytest.fixture(scope="module")
def acme(farebox: Farebox, provider: FakeProvider) -> Organization:
    """An organization that ran the app once."""
    organization = farebox.make_organization("acme")
    run_app(farebox, provider.url, organization)
    return organization


@pytest.fixture(scope="module")
def globex(farebox: Farebox, provider: FakeProvider) -> Organization:
    """An organization that ran the app twice."""
    organization = farebox.make_organization("globex")
    run_app(farebox, provider.url, organization)
    run_app(farebox, provider.url, organization)
    return organization


@pytest.fixture(scope="module")
def rows(farebox: Farebox, acme: Organization) -> list[dict[str, Any]]:
    return farebox.wait_for_rows(acme.slug, CALLS)


def test_every_call_is_one_row(rows: list[dict[str, Any]]) -> None:
    models = sorted(row["request_model"] for row in rows)

    assert models == [
        "claude-sonnet-4-5",
        "claude-sonnet-4-5",
        "fail-429",
        "gpt-4.1-mini",
        "gpt-4o-mini",
        "gpt-4o-mini",
        "text-embedding-3-small",
    ]


def test_rows_carry_the_tokens_that_the_provider_reported(rows: list[dict[str, Any]]) -> None:
    tokens = {
        row["request_model"]: (
            row["input_tokens"],
            row["cache_read_input_tokens"],
            row["output_tokens"],
            row["reasoning_output_tokens"],
        )
        for row in rows
    }

    assert tokens == {
        "gpt-4o-mini": (2006, 1920, 300, 100),
        "gpt-4.1-mini": (3000, 1000, 400, 150),
        "text-embedding-3-small": (8, None, None, None),
        "claude-sonnet-4-5": (6010, 5000, 200, 60),
        "fail-429": (None, None, None, None),
    }


def test_a_streamed_call_costs_what_a_plain_one_does(rows: list[dict[str, Any]]) -> None:
    for model in ("gpt-4o-mini", "claude-sonnet-4-5"):
        calls = {row["stream"]: row["cost"] for row in rows if row["request_model"] == model}

        assert {stream: Decimal(cost) for stream, cost in calls.items()} == {
            False: COST_OF[model],
            True: COST_OF[model],
        }


def test_cache_writes_are_kept_by_time_to_live(rows: list[dict[str, Any]]) -> None:
    writes = {row["request_model"]: row["cache_write_input_tokens"] for row in rows}

    assert writes["claude-sonnet-4-5"] == {"5m": 700, "1h": 300}
    assert writes["gpt-4.1-mini"] == {"30m": 30, "12h": 20}


def test_costs_are_exact(rows: list[dict[str, Any]]) -> None:
    costs = [(row["request_model"], row["currency"], Decimal(row["cost"])) for row in rows if row["cost"] is not None]

    assert len(costs) == CALLS - 1
    assert all((currency, cost) == ("USD", COST_OF[model]) for model, currency, cost in costs)


def test_a_refused_call_is_a_row_that_costs_nothing_and_says_why(rows: list[dict[str, Any]]) -> None:
    (refused,) = [row for row in rows if row["request_model"] == "fail-429"]

    assert refused["status"] == "error"
    assert refused["error_code"] == "openai.RateLimitError"
    assert (refused["billing_status"], refused["reason"], refused["cost"]) == ("not_billable", "error_no_usage", None)


def test_rows_know_who_called_and_for_what(rows: list[dict[str, Any]]) -> None:
    who = {(row["provider"], row["user"], row["user_email"], row["service"], row["category"]) for row in rows}

    assert who == {
        ("openai", "ada", "ada@example.com", "support-bot", "rag"),
        ("anthropic", "grace", None, "digest", "summary"),
    }


def test_a_charge_can_be_explained_line_by_line(farebox: Farebox, rows: list[dict[str, Any]]) -> None:
    row = next(row for row in rows if row["request_model"] == "claude-sonnet-4-5")

    charge = farebox.get(f"/v1/usage/{row['id']}/charge")

    amounts = [Decimal(line["amount"]) for line in charge["lines"]]
    assert len(amounts) == 5  # uncached input, cache read, two cache writes, output
    assert sum(amounts) == Decimal(row["cost"])
    assert charge["price"]["source"] == "litellm"
    # 5000 × 0.30, and 700 × 3.75 + 300 × 6, a million tokens each
    assert (row["cost_cache_read"], row["cost_cache_write"]) == ("0.0015", "0.004425")


def test_the_month_summary_is_the_sum_of_the_rows(farebox: Farebox, rows: list[dict[str, Any]]) -> None:
    month = farebox.get("/v1/organizations/acme/summary")["month"]

    assert (month["requests"], month["errors"], month["unpriced_rows"]) == (CALLS, 1, 0)
    assert month["input_tokens"] == 2006 + 2006 + 3000 + 8 + 6010 + 6010
    assert Decimal(month["cost"]) == COST_PER_RUN == sum(Decimal(row["cost"]) for row in rows if row["cost"])


def test_each_organization_pays_for_its_own_calls(farebox: Farebox, globex: Organization) -> None:
    farebox.wait_for_rows(globex.slug, 2 * CALLS)

    totals = {slug: farebox.get(f"/v1/organizations/{slug}/summary")["total"] for slug in ("acme", "globex")}

    assert Decimal(totals["globex"]["cost"]) == 2 * COST_PER_RUN
    assert Decimal(totals["acme"]["cost"]) == COST_PER_RUN


def test_the_sender_s_key_may_not_read(farebox: Farebox, acme: Organization) -> None:
    with pytest.raises(OSError, match="403"):
        farebox.get("/v1/usage", key=acme.ingest_key)
