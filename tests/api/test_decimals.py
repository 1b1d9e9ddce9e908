"""Decimals in bodies: money as text or a whole number, ratios as any number, both exact."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec import Raw

from farebox_api.errors import InvalidRequest
from farebox_api.schemas.decimals import decimal_of, ratio_of


@pytest.mark.parametrize(
    ("raw", "value"), [(b'"0.1"', "0.1"), (b'"1e-3"', "0.001"), (b"10", "10"), (b"-7", "-7"), (b'"-0.50"', "-0.5")]
)
def test_money_is_text_or_a_whole_number(raw: bytes, value: str) -> None:
    assert decimal_of("/amount", Raw(raw)) == Decimal(value)


@pytest.mark.parametrize("raw", [b"0.1", b"1.0", b"1e2", b"-5.5", b"5E-1", b"true", b"null", b"[]", b'"ten"', b'""'])
def test_money_as_a_fraction_or_no_number_is_refused_at_its_place(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decimal_of("/amount", Raw(raw))

    assert [fault.pointer for fault in refused.value.faults] == ["/amount"]


def test_a_ratio_may_be_a_fraction_and_keeps_its_digits() -> None:
    assert ratio_of("/factor", Raw(b"1.123456789012345678901")) == Decimal("1.123456789012345678901")
