"""Budgets: how much of one currency may be spent, by whom or for what, and in which period.

A draft comes in, checked; rows and structs go out. A budget always belongs to one organization. What was spent of it is
read by `budgets.spending` from the sums beside the rows, so a budget can only ask for what those sums carry.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final, get_args

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, Connection, Row, func, insert, or_, select, tuple_, update

from farebox_ledger.errors import Conflict, InvalidInput, NotFound, Outdated
from farebox_ledger.money import PICO, decimal_text, join, pico_text, split
from farebox_ledger.pricing import canonical_provider
from farebox_ledger.store import audit, subjects
from farebox_ledger.store.budget_tables import BudgetPeriod, ThresholdKind, budgets
from farebox_ledger.store.filtering import UsageFilter
from farebox_ledger.store.rows import bounded_name
from farebox_ledger.store.scope import OrgScope, Scope, within
from farebox_ledger.store.subjects import Position, Subject
from farebox_ledger.store.timeline import zone

MAX_BUDGETS: Final = 1000
"""Budgets of one organization; a check looks through all of them."""

MAX_AMOUNT_UNITS: Final = 10**15
MAX_THRESHOLDS: Final = 16
MAX_PERCENT: Final = 1000

_NOUN: Final = "budget"
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_SUMMED: Final = ("project", "provider", "model", "service", "category")
_HOLDERS: Final = {"user": "user_ref", "key": "key_id", "tag": "tag"}
_COLUMNS: Final = {**{name: name for name in _SUMMED}, **_HOLDERS}


class BudgetScope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a budget is for; None asks for nothing, and all that is asked for must hold.

    `user`, `key` and `tag` stand alone, as the sums beside the rows hold them; the others go together.
    """

    project: str | None = None
    provider: str | None = None
    model: str | None = None
    service: str | None = None
    category: str | None = None
    user: str | None = None
    key: str | None = None
    tag: str | None = None

    def filter(self, org_id: int) -> UsageFilter:
        """Choose the same rows as a list or a summary does."""
        return UsageFilter(org_id=org_id, **{name: getattr(self, name) for name in self.__struct_fields__})


class Threshold(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of the budget at which something happens: a warning (soft), or refusals (hard).

    Either `percent` of the amount, with two places, or an `amount` of its own in whole units.
    """

    kind: ThresholdKind
    percent: Decimal | None = None
    amount: Decimal | None = None

    @property
    def name(self) -> str:
        """Name it like no other of its budget: `80%`, or `12.5` for an amount."""
        return f"{decimal_text(self.percent)}%" if self.percent is not None else decimal_text(self.amount or Decimal(0))

    def limit_pico(self, amount_pico: int) -> int:
        """Say how much spending reaches it, in pico-units, where the budget has that amount."""
        if self.percent is None:
            return int((self.amount or Decimal(0)) * PICO)
        return -(-amount_pico * int(self.percent * 100) // 10_000)


DEFAULT_THRESHOLDS: Final = (
    Threshold(kind="soft", percent=Decimal(80)),
    Threshold(kind="hard", percent=Decimal(100)),
)


class Budget(Subject, frozen=True, kw_only=True):
    """One budget. `starts_at_us` None: since ever; `ends_at_us` None: until further notice."""

    org_id: int
    name: str
    scope: BudgetScope
    period: BudgetPeriod
    tz: str
    amount_pico: int
    currency: str
    thresholds: tuple[Threshold, ...]
    starts_at_us: int | None
    ends_at_us: int | None


class BudgetDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A budget to be made; `amount` is in whole units of the currency."""

    name: str
    amount: Decimal
    scope: BudgetScope = BudgetScope()
    period: BudgetPeriod = "month"
    tz: str = "UTC"
    currency: str = "USD"
    thresholds: tuple[Threshold, ...] = DEFAULT_THRESHOLDS
    starts_at_us: int | None = None
    ends_at_us: int | None = None
    notes: str | None = None
    is_active: bool = True


class BudgetChange(msgspec.Struct, frozen=True, kw_only=True):
    """What changes of a budget; what it is for and its currency stay."""

    name: str | UnsetType = UNSET
    amount: Decimal | UnsetType = UNSET
    period: BudgetPeriod | UnsetType = UNSET
    tz: str | UnsetType = UNSET
    thresholds: tuple[Threshold, ...] | UnsetType = UNSET
    starts_at_us: int | UnsetType | None = UNSET
    ends_at_us: int | UnsetType | None = UNSET
    notes: str | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET


class BudgetedCall(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a call before it is made; a budget for something else than is said does not bind it.

    `models` are the names under which the call may be booked.
    """

    project: str | None = None
    provider: str | None = None
    models: tuple[str, ...] = ()
    service: str | None = None
    category: str | None = None
    user: str | None = None
    key: str | None = None
    tags: tuple[str, ...] = ()


def _before(connection: Connection, scope: Scope, identity: str) -> Budget:
    """Read what the audit log keeps of the time before a change, which nobody else makes until this one is done."""
    return get_budget(connection, scope, identity, hold=True)


@audit.makes(_NOUN)
def create_budget(connection: Connection, scope: Scope, draft: BudgetDraft, *, now_us: int | None = None) -> Budget:
    """Make a budget of the scope's organization.

    Raises:
        InvalidInput: a field cannot be used, or the scope is no organization's; names the field.
        Conflict: the organization has as many budgets as it may.
    """
    if not isinstance(scope, OrgScope):
        raise InvalidInput("organization", "required, because the key is of none")
    identity = subjects.new_id("bud")
    values = {
        "org_id": scope.org_id,
        "id": identity,
        **_checked_scope(draft.scope),
        "currency": _checked_currency(draft.currency),
        **_checked(
            name=draft.name,
            amount=draft.amount,
            period=draft.period,
            tz=draft.tz,
            thresholds=draft.thresholds,
            starts_at_us=draft.starts_at_us,
            ends_at_us=draft.ends_at_us,
            notes=draft.notes,
            is_active=draft.is_active,
        ),
    }
    _refuse_empty_window(draft.starts_at_us, draft.ends_at_us)
    _refuse_too_many(connection, scope.org_id)
    at_us = subjects.now_us() if now_us is None else now_us
    connection.execute(insert(budgets).values(**values, created_at_us=at_us, updated_at_us=at_us))
    return get_budget(connection, scope, identity)


@audit.changes(_NOUN, _before)
def change_budget(
    connection: Connection,
    scope: Scope,
    identity: str,
    wanted: BudgetChange,
    *,
    expected_version: int | None = None,
    now_us: int | None = None,
) -> Budget:
    """Change a budget. Alerts that have fired stay; a threshold that has fired in a period fires no second time in it.

    Raises:
        InvalidInput: as `create_budget`.
        NotFound: it does not exist, or not for this scope.
        Outdated: it is not at `expected_version`.
    """
    stands = _expected(connection, scope, identity, expected_version)
    values = _checked(**{name: getattr(wanted, name) for name in wanted.__struct_fields__})
    _refuse_empty_window(values.get("starts_at_us", stands.starts_at_us), values.get("ends_at_us", stands.ends_at_us))
    _touch(connection, stands, now_us, **values)
    return get_budget(connection, scope, identity)


@audit.changes(_NOUN, _before, "delete")
def delete_budget(
    connection: Connection,
    scope: Scope,
    identity: str,
    *,
    expected_version: int | None = None,
    now_us: int | None = None,
) -> None:
    """Let a budget bind nobody from now on; its alerts stay.

    Raises:
        NotFound, Outdated: as `change_budget`.
    """
    at_us = subjects.now_us() if now_us is None else now_us
    _touch(connection, _expected(connection, scope, identity, expected_version), at_us, deleted_at_us=at_us)


def get_budget(connection: Connection, scope: Scope, identity: str, *, hold: bool = False) -> Budget:
    """Find a budget of the scope. `hold` keeps it from others who would change it until the transaction ends.

    Raises:
        NotFound: there is none, or not for this scope.
    """
    one = _live(scope).where(budgets.c.id == identity)
    row = connection.execute(one.with_for_update() if hold else one).one_or_none()
    if row is None:
        raise NotFound(_NOUN, identity)
    return _budget(row)


def list_budgets(
    connection: Connection, scope: Scope, *, limit: int = 100, after: Position | None = None
) -> list[Budget]:
    """List budgets, oldest first."""
    listed = _live(scope).order_by(budgets.c.created_at_us, budgets.c.id).limit(limit)
    if after is not None:
        listed = listed.where(tuple_(budgets.c.created_at_us, budgets.c.id) > after)
    return [_budget(row) for row in connection.execute(listed)]


def active_budgets(
    connection: Connection, scope: Scope, *, limit: int, after: tuple[int, str] | None = None
) -> list[Budget]:
    """List the budgets that are switched on, in the order of (organization, id), behind `after`."""
    listed = _live(scope).where(budgets.c.is_active == 1)
    if after is not None:
        listed = listed.where(tuple_(budgets.c.org_id, budgets.c.id) > after)
    rows = connection.execute(listed.order_by(budgets.c.org_id, budgets.c.id).limit(limit))
    return [_budget(row) for row in rows]


def binding_budgets(
    connection: Connection, scope: OrgScope, call: BudgetedCall, at_us: int, *, limit: int = MAX_BUDGETS
) -> list[Budget]:
    """List the budgets that a call at that moment would count against, oldest first."""
    said = {"provider": call.provider and canonical_provider(call.provider), "user": call.user, "key": call.key}
    said |= {name: getattr(call, name) for name in ("project", "service", "category")}
    conditions = [_is_for(name, () if value is None else (value,)) for name, value in said.items()]
    conditions += [_is_for("model", call.models), _is_for("tag", call.tags)]
    listed = _live(scope).where(
        budgets.c.is_active == 1,
        func.coalesce(budgets.c.starts_at_us, at_us) <= at_us,
        func.coalesce(budgets.c.ends_at_us, at_us + 1) > at_us,
        *conditions,
    )
    rows = connection.execute(listed.order_by(budgets.c.created_at_us, budgets.c.id).limit(limit))
    return [_budget(row) for row in rows]


def amounts(name: str, pico: int) -> dict[str, int]:
    """Write an amount into its two columns."""
    units, rest = split(pico)
    return {f"{name}_units": units, f"{name}_pico": rest}


def _is_for(name: str, values: tuple[str, ...]) -> ColumnElement[bool]:
    column = budgets.c[_COLUMNS[name]]
    if not values:
        return column.is_(None)
    return or_(column.is_(None), column.in_([bounded_name(value) for value in values]))


def _live(scope: Scope) -> Any:
    return select(budgets).where(within(scope, budgets.c.org_id), budgets.c.deleted_at_us.is_(None))


def _expected(connection: Connection, scope: Scope, identity: str, version: int | None) -> Budget:
    stands = get_budget(connection, scope, identity)
    if version is not None and stands.row_version != version:
        raise Outdated(_NOUN, identity, expected=version, current=stands.row_version)
    return stands


def _touch(connection: Connection, budget: Budget, now_us: int | None, **values: Any) -> None:
    at_us = subjects.now_us() if now_us is None else now_us
    mine = (budgets.c.org_id == budget.org_id, budgets.c.id == budget.id, budgets.c.row_version == budget.row_version)
    changed = connection.execute(
        update(budgets).where(*mine).values(row_version=budget.row_version + 1, updated_at_us=at_us, **values)
    )
    if not changed.rowcount:
        raise Outdated(_NOUN, budget.id, expected=budget.row_version, current=budget.row_version + 1)


def _refuse_too_many(connection: Connection, org_id: int) -> None:
    count = connection.scalar(
        select(func.count()).select_from(budgets).where(budgets.c.org_id == org_id, budgets.c.deleted_at_us.is_(None))
    )
    if (count or 0) >= MAX_BUDGETS:
        raise Conflict(f"the organization has {MAX_BUDGETS} budgets, the most that it may: delete one first")


def _checked_scope(scope: BudgetScope) -> dict[str, str | None]:
    asked = {name: value for name in _COLUMNS if (value := getattr(scope, name)) is not None}
    for name, value in asked.items():
        asked[name] = bounded_name(subjects.checked_name(f"scope.{name}", value, most=400)) or ""
    holders = sorted(asked.keys() & _HOLDERS.keys())
    if holders and len(asked) > 1:
        others = ", ".join(sorted(asked.keys() - {holders[0]}))
        raise InvalidInput(
            f"scope.{holders[0]}", f"stands alone in a budget, not beside {others}: make a budget for each"
        )
    if "provider" in asked:
        asked["provider"] = canonical_provider(asked["provider"])
    return {column: asked.get(name) for name, column in _COLUMNS.items()}


def _checked(**wanted: Any) -> dict[str, Any]:
    """Check what is given of a budget's members and write it as the table has it; what is UNSET is left out."""
    given = {name: value for name, value in wanted.items() if not isinstance(value, UnsetType)}
    values: dict[str, Any] = {name: given[name] for name in ("starts_at_us", "ends_at_us") if name in given}
    if "name" in given:
        values["name"] = subjects.checked_name("name", given["name"])
    if "amount" in given:
        values |= amounts("amount", _checked_amount("amount", given["amount"]))
    if "period" in given:
        values["period"] = _checked_period(given["period"])
    if "tz" in given:
        zone(given["tz"])
        values["tz"] = given["tz"]
    if "thresholds" in given:
        values["thresholds"] = msgspec.json.encode(_checked_thresholds(given["thresholds"])).decode()
    if "notes" in given:
        values["notes"] = subjects.checked_notes(given["notes"])
    if "is_active" in given:
        values["is_active"] = int(given["is_active"])
    return values


def _checked_period(period: str) -> str:
    if period not in get_args(BudgetPeriod):
        raise InvalidInput("period", f"expected one of {', '.join(get_args(BudgetPeriod))}, got {period!r}")
    return period


def _checked_currency(currency: str) -> str:
    if not _CURRENCY.fullmatch(currency):
        raise InvalidInput("currency", f"expected an ISO 4217 code such as USD, got {currency[:16]!r}")
    return currency


def _checked_amount(field: str, amount: Decimal) -> int:
    """Answer an amount in pico-units.

    Raises:
        InvalidInput: it is no number above 0, is too large, or has more than 12 decimal places.
    """
    if not amount.is_finite() or not 0 < amount <= MAX_AMOUNT_UNITS:
        raise InvalidInput(field, f"expected an amount above 0, at most {MAX_AMOUNT_UNITS}")
    exponent = amount.normalize().as_tuple().exponent
    if isinstance(exponent, int) and exponent < -12:
        raise InvalidInput(field, "expected at most 12 decimal places")
    return int(amount * PICO)


def _checked_thresholds(thresholds: tuple[Threshold, ...]) -> list[Threshold]:
    if len(thresholds) > MAX_THRESHOLDS:
        raise InvalidInput("thresholds", f"expected at most {MAX_THRESHOLDS}")
    checked = [_checked_threshold(f"thresholds.{number}", one) for number, one in enumerate(thresholds)]
    if len({one.name for one in checked}) < len(checked):
        raise InvalidInput("thresholds", "one stands there twice")
    return checked


def _checked_threshold(field: str, threshold: Threshold) -> Threshold:
    if (threshold.percent is None) == (threshold.amount is None):
        raise InvalidInput(field, "expected either `percent` or `amount`")
    if threshold.amount is not None:
        return msgspec.structs.replace(
            threshold, amount=Decimal(pico_text(_checked_amount(f"{field}.amount", threshold.amount)))
        )
    percent = threshold.percent or Decimal(0)
    if not percent.is_finite() or not 0 < percent <= MAX_PERCENT or percent * 100 != int(percent * 100):
        raise InvalidInput(f"{field}.percent", f"expected 0.01 to {MAX_PERCENT}, with at most two decimal places")
    return msgspec.structs.replace(threshold, percent=Decimal(decimal_text(percent)))


def _refuse_empty_window(starts_at_us: int | None, ends_at_us: int | None) -> None:
    if starts_at_us is not None and ends_at_us is not None and starts_at_us >= ends_at_us:
        raise InvalidInput("ends_at", "must lie after starts_at")


def _budget(row: Row[Any]) -> Budget:
    return Budget(
        **subjects.subject_fields(row),
        name=row.name,
        scope=BudgetScope(**{name: getattr(row, column) for name, column in _COLUMNS.items()}),
        period=row.period,
        tz=row.tz,
        amount_pico=join(row.amount_units, row.amount_pico),
        currency=row.currency,
        thresholds=msgspec.json.decode(row.thresholds, type=tuple[Threshold, ...]),
        starts_at_us=row.starts_at_us,
        ends_at_us=row.ends_at_us,
    )
