from __future__ import annotations

from farebox_ledger.catalog.history import with_beginnings
from farebox_ledger.pricing import Band, Price, Rates, Tier, price_id

MAY, JUNE, JULY = 1_746_057_600_000_000, 1_748_736_000_000_000, 1_751_328_000_000_000
OLD, NEW = {"input_tokens": "10", "output_tokens": "40"}, {"input_tokens": "2", "output_tokens": "8"}


def test_a_price_begins_when_the_archive_says_that_it_did() -> None:
    chain = [archived(OLD, None, JUNE), archived(NEW, JUNE, None)]

    (price,) = with_beginnings([listed(NEW)], chain)

    assert (price.effective_from_us, price.effective_to_us) == (JUNE, None)
    assert price.rates == listed(NEW).rates
    assert price.id == price_id("litellm", "openai", "m", price.rates, effective_from_us=JUNE)
    assert price.id != listed(NEW).id


def test_a_later_change_of_other_rates_is_no_beginning() -> None:
    chain = [
        archived(OLD, None, MAY),
        archived(NEW, MAY, JUNE),
        archived({**NEW, "web_searches": "0.01"}, JUNE, JULY),
        archived(NEW, JULY, None, batch={"input_tokens": "1"}),
    ]

    (price,) = with_beginnings([listed(NEW)], chain)

    assert price.effective_from_us == MAY


def test_a_price_that_was_never_another_stays_valid_always() -> None:
    chain = [archived(NEW, None, JUNE), archived(NEW, JUNE, None, batch={"input_tokens": "1"})]

    assert with_beginnings([listed(NEW)], chain) == [listed(NEW)]


def test_where_the_two_disagree_nothing_is_known() -> None:
    chain = [archived(OLD, None, JUNE), archived(NEW, JUNE, None)]
    dearer = listed({**NEW, "output_tokens": "9"})
    tiered = listed(NEW, bands=(Band(200_000, {"input_tokens": "4"}),))
    images = listed({"output_images": "0.1"})

    assert with_beginnings([dearer, tiered, images], chain) == [dearer, tiered, images]


def test_a_rate_that_only_one_lists_is_no_disagreement() -> None:
    chain = [archived(OLD, None, JUNE), archived(NEW, JUNE, None)]

    (price,) = with_beginnings([listed({**NEW, "cache_read_input_tokens": "0.5"})], chain)

    assert price.effective_from_us == JUNE


def test_a_price_of_another_name_or_with_a_date_is_left_alone() -> None:
    chain = [archived(OLD, None, JUNE, model="other"), archived(NEW, JUNE, None, model="other")]
    dated = listed(NEW, begin=MAY, model="other")

    assert with_beginnings([listed(NEW), dated], chain) == [listed(NEW), dated]


def test_names_are_compared_in_any_case() -> None:
    chain = [archived(OLD, None, JUNE, model="M"), archived(NEW, JUNE, None, model="M")]

    (price,) = with_beginnings([listed(NEW)], chain)

    assert price.effective_from_us == JUNE


def listed(rates: dict[str, str], *, bands: tuple[Band, ...] = (), begin: int | None = None, model: str = "m") -> Price:
    all_rates = Rates(tiers={"standard": Tier(rates, bands)})
    return Price(
        id=price_id("litellm", "openai", model, all_rates, effective_from_us=begin),
        source="litellm",
        provider="openai",
        model=model,
        rates=all_rates,
        effective_from_us=begin,
    )


def archived(
    rates: dict[str, str],
    begin: int | None,
    end: int | None,
    *,
    batch: dict[str, str] | None = None,
    model: str = "m",
) -> Price:
    tiers = {"standard": Tier(rates), **({"batch": Tier(batch)} if batch else {})}
    return Price(
        id=f"{model}-{begin}",
        source="genai-prices",
        provider="openai",
        model=model,
        rates=Rates(tiers=tiers),
        effective_from_us=begin,
        effective_to_us=end,
    )
