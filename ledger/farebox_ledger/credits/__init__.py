"""Credits: grants, purchases, adjustments, voids, balances, and the allocation of what was used to what was granted."""

from farebox_ledger.credits.allocating import ALLOCATE, EXPIRE, allocate_account, allocate_credits, expire_credits
from farebox_ledger.credits.balances import Balance, GrantBalance, balance_of, grant_balances
from farebox_ledger.credits.granting import (
    Adjustment,
    Granting,
    Purchase,
    adjust,
    grant_credits,
    record_purchase,
    void_grant,
)
from farebox_ledger.credits.purchasing import (
    PURCHASE_HOOKS,
    Checkout,
    PurchaseHook,
    RecordedByHand,
    purchase_hook,
)
from farebox_ledger.credits.watching import CHECK_BALANCES, WATCH, check_balances, watch_balances

__all__ = [
    "ALLOCATE",
    "CHECK_BALANCES",
    "EXPIRE",
    "PURCHASE_HOOKS",
    "WATCH",
    "Adjustment",
    "Balance",
    "Checkout",
    "GrantBalance",
    "Granting",
    "Purchase",
    "PurchaseHook",
    "RecordedByHand",
    "adjust",
    "allocate_account",
    "allocate_credits",
    "balance_of",
    "check_balances",
    "expire_credits",
    "grant_balances",
    "grant_credits",
    "purchase_hook",
    "record_purchase",
    "void_grant",
    "watch_balances",
]
