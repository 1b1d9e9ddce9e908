"""The price book that the API resolves and quotes with: read once per catalog version, shared by all requests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Lock

from sqlalchemy import Engine

from farebox_ledger.pricing import Price, PriceBook
from farebox_ledger.pricing.estimates import AverageRates
from farebox_ledger.pricing.suggestions import Suggestions
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.prices import catalog_version, load_book
from farebox_ledger.store.scope import AllOrganizations


class Catalog:
    """Hands out the book of the current catalog version.

    The book holds every organization's overrides, so it is read as the system; a request names the organization whose
    overrides apply, and the routes let a caller name none but its own.
    """

    def __init__(self, engine: Engine) -> None:
        """Read nothing yet."""
        self._engine = engine
        self._lock = Lock()
        self._book: PriceBook | None = None
        self._suggestions: tuple[int, Suggestions] | None = None

    def book(self) -> PriceBook:
        """Answer the current book; a changed catalog is read anew, by one request while the others wait."""
        with transaction(self._engine, AllOrganizations()) as connection:
            version = catalog_version(connection)
            with self._lock:
                if self._book is None or self._book.version != version:
                    self._book = load_book(connection)
                return self._book

    def suggestions(self) -> Suggestions:
        """Answer the names of the current book that look like others; overrides of organizations are not told."""
        book = self.book()
        with self._lock:
            if self._suggestions is None or self._suggestions[0] != book.version:
                self._suggestions = (book.version, Suggestions(_public(book)))
            return self._suggestions[1]

    def average_rates(self) -> AverageRates:
        """Average what models cost now; overrides of organizations are not told."""
        return AverageRates(_public(self.book()), time.time_ns() // 1000)


def _public(book: PriceBook) -> Iterator[Price]:
    return (price for price in book.prices() if price.org_id is None)
