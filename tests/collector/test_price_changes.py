"""Prices that an administrator changes while a collector runs: what it books from then on, and what a quote says."""

from __future__ import annotations

import time
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Engine

from farebox_collector.booking import book_batches
from farebox_collector.database import Books
from farebox_collector.spans import AttributeValue, Batch, Sender, Span
from farebox_ledger.money import pico_text
from farebox_ledger.pricing import Price, Rates, Tier
from farebox_ledger.pricing.quoting import QuotedUsage, QuoteRequest, quote
from farebox_ledger.store.aliases import AliasDraft, AliasTarget, create_alias
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.model_configs import ModelConfigDraft, create_model_config
from farebox_ledger.store.multipliers import MultiplierDraft, create_multiplier
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.overrides import OverrideDraft, create_override
from farebox_ledger.store.price_rows import insert_prices
from farebox_ledger.store.prices import load_book, raise_catalog_version
from farebox_ledger.store.querying import UsageFilter, UsageRow, list_usage
from farebox_ledger.store.schema import price_revisions
from farebox_ledger.store.scope import AllOrganizations, OrgScope
from farebox_ledger.usage import org_id_of

EVERYBODY = AllOrganizations()
ACME = OrgScope(org_id_of("acme"))
END_US = 1_763_690_000_000_000
numbers = count(1)

LISTED = Price(
    id="ltl_1",
    source="litellm",
    provider="openai",
    model="gpt-4o",
    rates=Rates(tiers={"standard": Tier({"input_tokens": "0.000002", "output_tokens": "0.000008"})}),
)


@pytest.fixture
def engine(engine: Engine) -> Engine:
    """Books of two organizations, with one synced price and nothing to load from the shipped files."""
    with transaction(engine, EVERYBODY, write=True) as connection:
        for slug in ("acme", "zenith"):
            create_organization(connection, slug)
        for source in ("litellm", "genai-prices"):
            row = {"id": source, "source": source, "fetched_at_us": 0, "applied_at_us": 0, "status": "applied"}
            connection.execute(price_revisions.insert().values(row))
        insert_prices(connection, [LISTED], None)
        raise_catalog_version(connection)
    return engine


def collecting(engine: Engine) -> Books:
    """The ledger as a running collector holds it, polled as by default."""
    return Books(engine, collector_id="collector", default_org=None, catalog_poll_s=2.0)


def book(engine: Engine, books: Books, org: str = "acme", **attributes: AttributeValue) -> UsageRow:
    """Book one call of 1,000 tokens in and 500 out, and answer its row."""
    number = next(numbers)
    said: dict[str, AttributeValue] = {
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 500,
    }
    said |= {name.replace("__", "."): value for name, value in attributes.items()}
    span = Span(
        number.to_bytes(16, "big"), number.to_bytes(8, "big"), None, "test", 3, END_US - 1_000_000, END_US, False, None,
        said,
    )  # fmt: skip
    batch = Batch(number, Sender(org_id_of(org), org), END_US, [span], 1)
    ledger = books.ledger()
    with transaction(engine, EVERYBODY, write=True) as connection:
        book_batches(connection, [batch], ledger)
    with transaction(engine, EVERYBODY) as connection:
        rows = list_usage(connection, EVERYBODY, UsageFilter(trace_id=span.trace_id), limit=2, after=None).rows
    (row,) = rows
    return row


def test_a_running_collector_books_by_a_new_override_within_two_seconds(engine: Engine) -> None:
    books = collecting(engine)
    assert book(engine, books).charge.cost_pico == 6_000_000_000

    with transaction(engine, ACME, write=True) as connection:
        made = create_override(
            connection,
            ACME,
            OverrideDraft(
                provider="openai", model="gpt-4o", unit="1m", prices={"input_tokens": Decimal(1)}, inherit=True
            ),
        )
    time.sleep(2.01)

    row = book(engine, books)
    assert row.charge.cost_pico == 5_000_000_000
    assert row.charge.price is not None
    assert row.charge.price.id == made.terms[0].id
    assert book(engine, books, "zenith").charge.cost_pico == 6_000_000_000


def administer(engine: Engine) -> None:
    """Make an override, an alias and multipliers, of acme and of everybody."""
    with transaction(engine, EVERYBODY, write=True) as connection:
        create_override(
            connection,
            ACME,
            OverrideDraft(
                provider="openai", model="gpt-4o", unit="1m", prices={"input_tokens": Decimal("1.37")}, inherit=True
            ),
        )
        create_alias(
            connection,
            EVERYBODY,
            AliasDraft(
                alias="chat-prod", provider="azure", target=AliasTarget(target_model="gpt-4o", target_provider="openai")
            ),
        )
        create_multiplier(connection, EVERYBODY, MultiplierDraft(factor=Decimal("1.1")))
        create_multiplier(connection, EVERYBODY, MultiplierDraft(factor=Decimal("1.05"), upstream="reseller"))
        create_multiplier(connection, ACME, MultiplierDraft(factor=Decimal("0.9"), provider="openai"))


@pytest.mark.parametrize("org", ["acme", "zenith"])
@pytest.mark.parametrize(
    ("provider", "model", "upstream"),
    [
        ("openai", "gpt-4o", None),
        ("openai", "gpt-4o", "reseller"),
        ("azure", "chat-prod", None),
        ("openai", "none", None),
    ],
)
def test_a_quote_is_what_the_pipeline_books(
    engine: Engine, org: str, provider: str, model: str, upstream: str | None
) -> None:
    administer(engine)
    said: dict[str, Any] = {"gen_ai__provider__name": provider, "gen_ai__request__model": model}
    if upstream:
        said["farebox__upstream"] = upstream

    booked = book(engine, collecting(engine), org, **said).charge

    with transaction(engine, EVERYBODY) as connection:
        quoted = quote(
            load_book(connection),
            QuoteRequest(
                model=model,
                provider=provider,
                upstream=upstream,
                organization=org,
                usage=QuotedUsage(input_tokens=1000, output_tokens=500),
            ),
            now_us=END_US,
        )
    assert (quoted.status, quoted.reason, quoted.currency) == (booked.status, booked.reason, booked.currency)
    assert quoted.cost == (None if booked.cost_pico is None else pico_text(booked.cost_pico))
    assert quoted.list_cost == (None if booked.list_cost_pico is None else pico_text(booked.list_cost_pico))
    assert quoted.price == booked.price
    assert [line.amount for line in quoted.lines] == [pico_text(line.amount_pico) for line in booked.lines]


def test_the_lines_of_a_multiplied_call_are_written_out(engine: Engine) -> None:
    administer(engine)

    charge = book(engine, collecting(engine), farebox__upstream="reseller").charge

    # 1.37 and 8 per million; acme's own factor comes before everybody's
    assert [(line.unit_price, line.multiplier, line.list_amount_pico, line.amount_pico) for line in charge.lines] == [
        ("0.00000137", "0.9", 1_370_000_000, 1_233_000_000),
        ("0.000008", "0.9", 4_000_000_000, 3_600_000_000),
    ]
    assert (charge.cost_pico, charge.list_cost_pico, charge.multiplier) == (4_833_000_000, 5_370_000_000, "0.9")


def test_a_call_belongs_to_what_it_says_then_to_its_alias_then_to_the_default(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        made = {
            name: create_model_config(
                connection,
                ACME,
                ModelConfigDraft(name=name, provider="openai", model="gpt-4o", is_default=name == "default"),
            ).id
            for name in ("default", "support", "aliased")
        }
        target = AliasTarget(target_model="gpt-4o", model_config_id=made["aliased"])
        create_alias(connection, ACME, AliasDraft(alias="bot", target=target))
    books = collecting(engine)

    said = [
        book(engine, books, **attributes).event.model_config
        for attributes in (
            {},
            {"gen_ai__request__model": "bot"},
            {"gen_ai__request__model": "bot", "farebox__model_config": "support"},
            {"farebox__model_config": made["support"]},
            {"farebox__model_config": "nobody's"},
        )
    ]

    assert said == [made["default"], made["aliased"], made["support"], made["support"], "nobody's"]
    assert book(engine, books, "zenith").event.model_config is None
