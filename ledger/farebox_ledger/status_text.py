"""A status in words, for a terminal and for the bot. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from farebox_ledger.credits import Balance, Checkout
from farebox_ledger.money import decimal_text, from_pico
from farebox_ledger.status import Status

MAX_LINES: Final = 20
"""Accounts, and projects, that are shown; a message of a bot holds 4096 characters."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN: Final = Decimal("0.000001")


def status_text(status: Status) -> str:
    """Write how somebody stands."""
    return "\n".join(_lines(status))


def credits_text(balances: Sequence[Balance], checkout: Checkout) -> str:
    """Write what somebody has, and where there is more."""
    lines = list(_balance_lines(balances))
    lines.append(f"Buy credits: {checkout.url}" if checkout.url else checkout.note)
    return "\n".join(lines)


def _lines(status: Status) -> Iterator[str]:
    yield status.organization if status.user is None else f"{status.organization}, user {status.user}"
    yield from _balance_lines(status.balances)
    month = datetime.fromtimestamp(status.month_start_us // 1_000_000, UTC)
    if not status.month:
        yield f"This month ({month:%Y-%m}, UTC): no calls"
    for group in status.month:
        cost = _amount(group.cost_pico, group.currency)
        yield f"This month ({month:%Y-%m}, UTC): {group.requests} calls, {group.errors} errors, {cost}"
    if status.projects:
        yield "Projects this month:"
    for one in status.projects[:MAX_LINES]:
        used = "" if one.last_used_us is None else f", last used {_time(one.last_used_us)}"
        cost = _amount(one.cost_pico, one.currency)
        yield f"  {one.project or '(no project)'}: {one.requests} calls, {cost}{used}"
    yield from _more(status.projects)
    yield f"Health: {_health(status)}"


def _balance_lines(balances: Sequence[Balance]) -> Iterator[str]:
    if not balances:
        yield "Credits: no account"
    for one in balances[:MAX_LINES]:
        account = one.account
        owner = "" if account.owner_kind == "organization" else f" of {account.owner_kind} {account.owner}"
        overdrawn = ", overdrawn" if one.balance_pico < 0 else ""
        yield f"Credits{owner}: {_shown(one.balance_pico)} ({account.currency}{overdrawn})"
    yield from _more(balances)


def _more(items: Sequence[object]) -> Iterator[str]:
    if len(items) > MAX_LINES:
        yield f"  and {len(items) - MAX_LINES} more"


def _health(status: Status) -> str:
    said = []
    if not status.is_complete:
        said.append("some calls have no price (farebox reprice)")
    if status.jobs.failed:
        said.append(f"{status.jobs.failed} jobs failed")
    if status.data_through_us is not None:
        said.append(f"newest call {_time(status.data_through_us)}")
    return "; ".join(said) if said else "good"


def _amount(pico: int | None, currency: str | None) -> str:
    return "no known cost" if pico is None else f"{_shown(pico)} {currency or ''}".rstrip()


def _shown(pico: int) -> str:
    """Write an amount in at most 6 decimals, for people; what is there and smaller is not shown as nothing."""
    exact = from_pico(pico)
    rounded = exact.quantize(_SHOWN)
    return decimal_text(rounded if rounded or not pico else exact)


def _time(time_us: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=time_us):%Y-%m-%d %H:%M} UTC"
