"""The hook for those who sell credits: where a customer pays, and whether a payment is to be believed.

farebox takes no payments. A package that does installs one object in the entry-point group `farebox.purchases`; without
one, purchases are recorded as whoever may write credits tells them.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Final, Protocol

import msgspec

from farebox_ledger.credits.granting import Purchase
from farebox_ledger.errors import InvalidInput
from farebox_ledger.store.credit_accounts import Account

PURCHASE_HOOKS: Final = "farebox.purchases"


class Checkout(msgspec.Struct, frozen=True):
    """Where a customer buys credits; `url` None: nowhere yet, and `note` says so for people."""

    url: str | None
    note: str


class PurchaseHook(Protocol):
    """What a package for payments does. Called outside of any transaction, so that it may ask its own service."""

    def checkout(self, account: Account) -> Checkout:
        """Say where the holder of an account buys credits."""
        ...

    def verify(self, account: Account, purchase: Purchase) -> None:
        """Let a purchase pass before it is recorded, also when it is told again.

        Raises:
            InvalidInput: there is no such payment; names the field.
        """
        ...


class RecordedByHand:
    """Stands in for a payment service: nothing can be bought, and what is told is believed."""

    def checkout(self, account: Account) -> Checkout:
        """Say that credits are bought from people."""
        return Checkout(None, "Credits cannot be bought here yet; ask your administrator.")

    def verify(self, account: Account, purchase: Purchase) -> None:
        """Believe it."""


@cache
def purchase_hook() -> PurchaseHook:
    """Find the installed hook, once.

    Raises:
        InvalidInput: there are several, and no telling which one is meant.
    """
    found = sorted(entry_points(group=PURCHASE_HOOKS), key=lambda point: point.name)
    if not found:
        return RecordedByHand()
    if len(found) > 1:
        names = ", ".join(point.value for point in found)
        raise InvalidInput(PURCHASE_HOOKS, f"several packages offer to take payments ({names}): uninstall all but one")
    loaded = found[0].load()
    hook: PurchaseHook = loaded() if isinstance(loaded, type) else loaded
    return hook
