from __future__ import annotations

import pytest

from farebox_ledger.pricing import OffPeak, Price, Rates, Tier, Window
from farebox_ledger.pricing.plan import CompiledPrice, is_off_peak
from tests.ledger.pricing.amounts import TUESDAY_NOON_US, at

WORKDAYS = (1, 2, 3, 4, 5)
# DeepSeek's windows as LiteLLM 1.109.1 lists them.
DEEPSEEK = OffPeak(
    {"input_tokens": "0.00000015"},
    (Window(WORKDAYS, ((0, 60), (240, 360), (600, 1440))), Window((6, 7), ((0, 1440),))),
)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-03T00:59:59+00:00", True),
        ("2026-11-03T01:00:00+00:00", False),
        ("2026-11-03T03:59:59+00:00", False),
        ("2026-11-03T04:00:00+00:00", True),
        ("2026-11-03T06:00:00+00:00", False),
        ("2026-11-03T10:00:00+00:00", True),
        ("2026-11-03T23:59:59+00:00", True),
        ("2026-11-07T02:00:00+00:00", True),
        ("2026-11-08T23:59:59+00:00", True),
        ("2026-11-09T02:00:00+00:00", False),
    ],
)
def test_off_peak_goes_by_utc_hours_and_weekday(moment: str, expected: bool) -> None:
    assert is_off_peak(DEEPSEEK, at(moment)) is expected


def test_the_weekday_may_be_that_of_another_calendar() -> None:
    weekend_in_shanghai = OffPeak({}, (Window((6, 7), ((0, 1440),)),), weekday_offset_minutes=480)

    # Friday 16:00 UTC is Saturday 00:00 in Shanghai.
    assert is_off_peak(weekend_in_shanghai, at("2026-11-06T16:00:00+00:00"))
    assert not is_off_peak(weekend_in_shanghai, at("2026-11-06T15:59:59+00:00"))
    assert not is_off_peak(weekend_in_shanghai, at("2026-11-08T16:00:00+00:00"))


def test_a_plan_is_compiled_once_for_requests_of_the_same_kind() -> None:
    compiled = CompiledPrice(
        Price(
            id="p",
            source="litellm",
            provider="openai",
            model="m",
            rates=Rates(tiers={"standard": Tier({"input_tokens": "1"})}, region_factors={"eu": "1.1"}),
        )
    )

    first = compiled.plan("standard", 10, TUESDAY_NOON_US, None)

    assert compiled.plan("standard", 10_000_000, TUESDAY_NOON_US + 1, "mars") is first
    assert compiled.plan("standard", 10, TUESDAY_NOON_US, "EU").rates["input_tokens"].text == "1.1"


def test_a_factor_leaves_fees_alone_and_stays_exact() -> None:
    compiled = CompiledPrice(
        Price(
            id="p",
            source="litellm",
            provider="gcp.vertex_ai",
            model="m",
            rates=Rates(
                tiers={"standard": Tier({"input_tokens": "0.00000123456789012345", "requests": "0.005"})},
                region_factors={"*": "1.1"},
            ),
        )
    )

    plan = compiled.plan("standard", 1, TUESDAY_NOON_US, "europe-west4")

    assert plan.rates["input_tokens"].text == "0.000001358024679135795"
    assert plan.rates["requests"].text == "0.005"
    assert (
        compiled.plan("standard", 1, TUESDAY_NOON_US, "global").rates["input_tokens"].text == "0.00000123456789012345"
    )
