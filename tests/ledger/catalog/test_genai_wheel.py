from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from farebox_ledger.catalog.archive_file import (
    ArchivedModel,
    ArchivedUnit,
    ContextRates,
    DatedRates,
    TieredRate,
)
from farebox_ledger.catalog.genai_wheel import archive_of
from farebox_ledger.errors import InvalidInput

UNITS = """
from typing import Any
unit_data: dict[str, Any] = {
    'input_tokens': {'per': 1000000, 'price_key': 'input_mtok', 'dimensions': {'family': 'tokens'}},
}
"""

HOURS = """TimeOfDateConstraint(
    start_time=datetime.time(0, 30, tzinfo=datetime.UTC), end_time=datetime.time(16, 30, tzinfo=datetime.UTC)
)"""


def test_the_literal_is_read_without_running_it() -> None:
    source = data(model("m", "ClauseEquals(equals='m')")) + "raise SystemExit('this code must not run')\n"

    archive = archive_of("1.2.3", source, UNITS)

    (provider,) = archive.providers
    assert archive.revision == "1.2.3"
    assert archive.units == {"input_mtok": ArchivedUnit("input_tokens", 1_000_000)}
    assert (provider.id, provider.url) == ("openai", "https://example.com/prices")
    assert provider.models == (ArchivedModel("m", ("m",), (DatedRates({"input_mtok": Decimal("2.5")}),)),)


@pytest.mark.parametrize(
    ("clause", "names"),
    [
        ("ClauseEquals(equals='M')", ("m", "M")),
        ("ClauseEquals(equals='other')", ("other",)),  # the id alone would not be found
        ("ClauseOr(or_=[ClauseEquals(equals='m'), ClauseEquals(equals='m-1')])", ("m", "m-1")),
        ("ClauseOr(or_=[ClauseOr(or_=[ClauseEquals(equals='deep')])])", ("deep",)),
        ("ClauseStartsWith(starts_with='m')", ("m",)),
        ("ClauseStartsWith(starts_with='m-')", ()),
        ("ClauseEndsWith(ends_with='m')", ("m",)),
        ("ClauseContains(contains='m')", ("m",)),
        ("ClauseRegex(regex='^m$')", ("m",)),
        ("ClauseRegex(regex='^m-')", ()),
        ("ClauseAnd(and_=[ClauseEquals(equals='m-2'), ClauseContains(contains='2')])", ()),
        ("ClauseAnd(and_=[ClauseStartsWith(starts_with='m'), ClauseContains(contains='m')])", ("m",)),
    ],
)
def test_only_names_that_are_written_out_are_names(clause: str, names: tuple[str, ...]) -> None:
    assert read(model("m", clause)).names == names


@pytest.mark.parametrize("identity", ["ft:m-", "regional.m"])
def test_an_id_that_is_a_label_or_the_beginning_of_names_is_no_name(identity: str) -> None:
    assert read(model(identity, f"ClauseContains(contains='{identity}')")).names == ()


def test_a_name_that_an_earlier_model_takes_is_not_the_later_ones() -> None:
    archive = archive_of(
        "1", data(model("m", "ClauseStartsWith(starts_with='m')"), model("m-1", "ClauseEquals(equals='m-1')")), UNITS
    )

    assert [one.names for one in archive.providers[0].models] == [("m",), ()]


def test_patterns_that_are_left_out_are_counted_by_kind() -> None:
    clause = "ClauseOr(or_=[ClauseEquals(equals='m'), ClauseContains(contains='m'), ClauseRegex(regex='m')])"

    archive = archive_of("1", data(model("m", clause), model("n", clause)), UNITS)

    assert archive.inexact_clauses == {"contains": 2, "regex": 2}


def test_conditions_and_variants_are_kept_in_their_order() -> None:
    prices = f"""[
        ConditionalPrice(prices=ModelPrice(input_mtok=Decimal('10'))),
        ConditionalPrice(constraint=StartDateConstraint(start_date=datetime.date(2025, 6, 10)),
                         prices=ModelPrice(input_mtok=Decimal('2'))),
        ConditionalPrice(constraint={HOURS}, prices=ModelPrice(input_mtok=Decimal('4'))),
    ]"""
    variants = """[PriceVariant(when={'processing': 'batch'}, prices=ModelPrice(input_mtok=Decimal('1')),
                                constraint=StartDateConstraint(start_date=datetime.date(2026, 10, 14)))]"""

    found = read(model("m", "ClauseEquals(equals='m')", prices=prices, extra=f"price_variants={variants},"))

    assert found.prices == (
        DatedRates({"input_mtok": Decimal(10)}),
        DatedRates({"input_mtok": Decimal(2)}, since=date(2025, 6, 10)),
        DatedRates({"input_mtok": Decimal(4)}, minutes=(30, 990)),
    )
    assert found.variants == (
        ContextRates({"processing": "batch"}, {"input_mtok": Decimal(1)}, since=date(2026, 10, 14)),
    )


def test_tiers_are_sorted_by_their_start() -> None:
    tiered = """ModelPrice(input_mtok=TieredPrices(base=Decimal('1'), tiers=[
        Tier(start=256000, price=Decimal('3')), Tier(start=32000, price=Decimal('2'))]))"""

    (dated,) = read(model("m", "ClauseEquals(equals='m')", prices=tiered)).prices

    assert dated.rates == {"input_mtok": TieredRate(Decimal(1), ((32_000, Decimal(2)), (256_000, Decimal(3))))}


@pytest.mark.parametrize(
    ("comment", "is_borrowed"),
    [
        ("Imported from OpenRouter pricing; verify against OpenAI pricing.", True),
        ("Imported from OpenRouter pricing; verify. Verified against OpenAI on 2026-10-15.", False),
        ("One-hour cache writes cost 2x.", False),
    ],
)
def test_a_price_that_is_another_sellers_is_marked(comment: str, is_borrowed: bool) -> None:
    found = read(model("m", "ClauseEquals(equals='m')", extra=f"price_comments={comment!r},"))

    assert found.is_borrowed is is_borrowed


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("", "a literal named providers"),
        ("providers: list[Provider] = make_them()", "a literal named providers"),
        ("providers: list[Provider] = [x for x in y]", "expected literals"),
        ("providers: list[Provider] = [1 + 1]", "expected literals"),
    ],
)
def test_a_file_of_another_layout_is_refused(source: str, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        archive_of("1", source, UNITS)


@pytest.mark.parametrize(
    ("clause", "prices", "complaint"),
    [
        ("ClauseSoundsLike(sounds_like='m')", "ModelPrice()", "expected a clause that is known, got ClauseSoundsLike"),
        ("ClauseEquals(equals='m')", "ModelPrice(input_mtok=PerMoon(1))", "expected a price"),
        (
            "ClauseEquals(equals='m')",
            "[ConditionalPrice(constraint=WeekdayConstraint(day=1), prices=ModelPrice())]",
            "expected a start date, got WeekdayConstraint",
        ),
        (
            "ClauseEquals(equals='m')",
            "[ConditionalPrice(constraint=TimeOfDateConstraint(start_time=datetime.time(1, 0), "
            "end_time=datetime.time(2, 0)), prices=ModelPrice())]",
            "expected an hour and a minute in UTC",
        ),
    ],
)
def test_a_construct_of_tomorrow_stops_the_renewal(clause: str, prices: str, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        read(model("m", clause, prices=prices))


def read(source: str) -> ArchivedModel:
    return archive_of("1", data(source), UNITS).providers[0].models[0]


def data(*models: str) -> str:
    return f"""
import datetime
from decimal import Decimal
from .types import *
providers: list[Provider] = [
    Provider(id='openai', name='OpenAI', pricing_urls=['https://example.com/prices'], models=[{", ".join(models)}]),
]
"""


def model(identity: str, clause: str, *, prices: str = "ModelPrice(input_mtok=Decimal('2.5'))", extra: str = "") -> str:
    return f"ModelInfo(id={identity!r}, match={clause}, {extra} prices={prices})"
