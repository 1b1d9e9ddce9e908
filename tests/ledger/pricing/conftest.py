"""The shipped catalog as a book, read once: these tests are about real prices."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from farebox_ledger.catalog import LitellmCatalog, read_litellm, shipped_snapshots, snapshot_content
from farebox_ledger.pricing import Charge, PriceBook, PricingRequest
from farebox_ledger.usage import Usage
from tests.ledger.pricing.amounts import TUESDAY_NOON_US

Charging = Callable[..., Charge]


@pytest.fixture(scope="session")
def shipped() -> LitellmCatalog:
    (snapshot,) = [one for one in shipped_snapshots() if one.source == "litellm"]
    return read_litellm(snapshot_content(snapshot))


@pytest.fixture(scope="session")
def book(shipped: LitellmCatalog) -> PriceBook:
    return PriceBook(shipped.prices, version=1)


@pytest.fixture
def charge(book: PriceBook) -> Charging:
    """Charge a call of the shipped catalog: charge("openai", "gpt-4o", input_tokens=1)."""

    def charged(
        provider: str | None,
        model: str | None,
        *,
        served: str | None = None,
        at_us: int = TUESDAY_NOON_US,
        tier: str | None = None,
        batch: bool = False,
        region: str | None = None,
        **usage: object,
    ) -> Charge:
        return book.charge(
            PricingRequest(
                provider=provider,
                request_model=model,
                response_model=served,
                at_us=at_us,
                usage=Usage(**usage),  # type: ignore[arg-type]  # each test writes the members that it means
                service_tier=tier,
                batch=batch,
                region=region,
            )
        )

    return charged
