"""Credit accounts: who pays with credits. One per organization, project or user and currency.

A call is charged to its user's account, else to its project's, else to the organization's, among those of the currency
of its price; without any of them it is charged to nobody. Owner, currency and rate of an account never change.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final, Literal, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, insert, literal_column, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from farebox_ledger.errors import Conflict, InvalidInput, NotFound
from farebox_ledger.money import MAX_AMOUNT_PICO, PICO, decimal_text, to_pico
from farebox_ledger.pricing.currencies import checked_currency
from farebox_ledger.pricing.units import checked_decimal
from farebox_ledger.store.audit import note
from farebox_ledger.store.credit_tables import OWNER_KINDS, credit_accounts
from farebox_ledger.store.engine import is_sqlite
from farebox_ledger.store.rows import POSITION, RowValues, bounded_name
from farebox_ledger.store.scope import OrgScope, Scope, require
from farebox_ledger.store.statements import among, chunks, marks, organizations_in

OwnerKind: TypeAlias = Literal["organization", "project", "user"]

MAX_RATE: Final = Decimal(1000)
"""The most credits per unit of currency: one deduction is then at most a thousand times what a row may cost."""

_KINDS: Final[Mapping[str, OwnerKind]] = {mark: kind for kind, mark in OWNER_KINDS.items()}  # type: ignore[misc]  # the keys are those of OwnerKind
_ORG_ID: Final = POSITION["org_id"]
_USER: Final = POSITION["user_ref"]
_PROJECT: Final = POSITION["project"]


class Account(msgspec.Struct, frozen=True):
    """An account. `rate` is credits per unit of `currency`; `owner` is '' for the organization itself.

    Webhooks are told when its balance sinks to `low_balance_pico` (None: never); `low_since_us` is when that was seen,
    None while it is above.
    """

    org_id: int
    account_id: str
    owner_kind: OwnerKind
    owner: str
    currency: str
    rate: Decimal
    name: str | None
    created_at_us: int
    low_balance_pico: int | None = None
    low_since_us: int | None = None


class Owner(msgspec.Struct, frozen=True):
    """Whose an account is: a user's, a project's or, without both, the organization's own."""

    user: str | None = None
    project: str | None = None

    @property
    def key(self) -> str:
        """Write the owner as accounts are found by it.

        Raises:
            InvalidInput: both a user and a project are named, or an empty name.
        """
        if self.user is not None and self.project is not None:
            raise InvalidInput("project", "stands beside user; an account is a user's, or a project's, or neither's")
        if self.user is not None:
            return f"u:{_name('user', self.user)}"
        return "o:" if self.project is None else f"p:{_name('project', self.project)}"

    def __str__(self) -> str:
        """Name the owner in messages."""
        if self.user is not None:
            return f"user {self.user}"
        return "the organization's own" if self.project is None else f"project {self.project}"


AccountKey: TypeAlias = tuple[int, str, str]
"""Organization, owner key, currency."""


def create_account(
    connection: Connection,
    scope: Scope,
    org_id: int,
    owner: Owner,
    *,
    currency: str = "USD",
    rate: Decimal = Decimal(1),
    name: str | None = None,
    low_balance: Decimal | None = None,
) -> Account:
    """Open an account; calls that are booked from now on are charged to it.

    Raises:
        InvalidInput: the organization is outside the scope, or a field cannot be used.
        Conflict: the owner has an account in this currency; carries its id.
    """
    require(scope, org_id)
    if checked_decimal("rate", rate, most=MAX_RATE) == 0:
        raise InvalidInput("rate", "expected a number above 0: credits per unit of the currency")
    values = {
        "org_id": org_id,
        "account_id": account_id_of(org_id, owner.key, checked_currency(currency)),
        "owner_key": owner.key,
        "currency": currency,
        "rate": decimal_text(rate),
        "name": name,
        "created_at_us": time.time_ns() // 1000,
        "low_balance_pico": _threshold(low_balance),
    }
    try:
        with connection.begin_nested():
            connection.execute(insert(credit_accounts), values)
    except IntegrityError:
        identity = str(values["account_id"])
        raise Conflict(
            f"there is an account in {currency} of this owner: {identity}", conflicting_id=identity
        ) from None
    made = get_account(connection, scope, org_id, str(values["account_id"]))
    note(connection, "credit_account.create", "credit_account", made.account_id, org_id=org_id, after=made)
    return made


def set_low_balance(
    connection: Connection, scope: Scope, org_id: int, account_id: str, low_balance: Decimal | None
) -> Account:
    """Say at which balance webhooks are told of an account; None: never. Below it already, they are told once more.

    Raises:
        NotFound: the organization has no such account.
        InvalidInput: the amount is too large, or has more than 12 decimal places.
    """
    before = get_account(connection, scope, org_id, account_id)
    values = {"low_balance_pico": _threshold(low_balance), "low_since_us": None}
    connection.execute(update(credit_accounts).where(*_is(before)).values(**values))
    after = get_account(connection, scope, org_id, account_id)
    note(connection, "credit_account.change", "credit_account", account_id, org_id=org_id, before=before, after=after)
    return after


def note_low(connection: Connection, account: Account, since_us: int | None) -> None:
    """Note since when an account is at its threshold or below; None: it is above."""
    connection.execute(update(credit_accounts).where(*_is(account)).values(low_since_us=since_us))


def watched_accounts(connection: Connection, org_id: int, last: Account | None, *, limit: int = 200) -> list[Account]:
    """List accounts of an organization that have a threshold, by id, behind the last one that the caller has."""
    watched: ColumnElement[bool] = literal_column("low_balance_pico IS NOT NULL")  # the words of the partial index
    listed = _SELECT.where(credit_accounts.c.org_id == org_id, watched)
    if last is not None:
        listed = listed.where(credit_accounts.c.account_id > last.account_id)
    return [_account(row) for row in connection.execute(listed.order_by(credit_accounts.c.account_id).limit(limit))]


def account_id_of(org_id: int, owner_key: str, currency: str) -> str:
    """Name an account by whose it is, so that any database gives it the same id."""
    named = f"{org_id}\0{owner_key}\0{currency}".encode()
    return f"acc_{blake2b(named, digest_size=10, person=b'farebox.account').hexdigest()}"


def get_account(connection: Connection, scope: Scope, org_id: int, account_id: str) -> Account:
    """Find an account by its id.

    Raises:
        NotFound: the organization has no such account.
    """
    require(scope, org_id)
    mine = _SELECT.where(credit_accounts.c.org_id == org_id, credit_accounts.c.account_id == account_id)
    found = connection.execute(mine).one_or_none()
    if found is None:
        raise NotFound("credit account", account_id)
    return _account(found)


def find_account(connection: Connection, scope: Scope, org_id: int, owner: Owner, currency: str) -> Account:
    """Find the very account of an owner in a currency.

    Raises:
        NotFound: it has none; the message says whose.
    """
    account_id = account_id_of(org_id, owner.key, checked_currency(currency))
    found = accounts_by_id(connection, scope, org_id, [account_id])
    if account_id not in found:
        raise NotFound("credit account", f"{owner}, {currency}")
    return found[account_id]


def list_accounts(
    connection: Connection,
    scope: Scope,
    org_id: int,
    *,
    limit: int,
    after: tuple[int, str] | None = None,
    owner: Owner | None = None,
) -> list[Account]:
    """List an organization's accounts, oldest first, behind `after` (created, id); `owner` chooses those of one."""
    require(scope, org_id)
    order = (credit_accounts.c.created_at_us, credit_accounts.c.account_id)
    listed = _SELECT.where(credit_accounts.c.org_id == org_id)
    if owner is not None:
        listed = listed.where(credit_accounts.c.owner_key == owner.key)
    if after is not None:
        listed = listed.where(tuple_(*order) > tuple_(*after))
    return [_account(row) for row in connection.execute(listed.order_by(*order).limit(limit))]


def accounts_by_id(connection: Connection, scope: Scope, org_id: int, ids: Collection[str]) -> dict[str, Account]:
    """Find accounts of an organization; those that there are not are left out."""
    require(scope, org_id)
    found: dict[str, Account] = {}
    for part in chunks(sorted(ids)):
        some = _SELECT.where(credit_accounts.c.org_id == org_id, credit_accounts.c.account_id.in_(part))
        found.update((row.account_id, _account(row)) for row in connection.execute(some))
    return found


def lock_account(connection: Connection, account: Account) -> None:
    """Let nobody else allocate or take back credits of an account until the transaction ends."""
    connection.execute(select(credit_accounts.c.account_id).where(*_is(account)).with_for_update())


def organizations_with_accounts(connection: Connection, scope: Scope) -> list[int]:
    """List who has accounts at all, in ascending order."""
    if isinstance(scope, OrgScope):
        return having_accounts(connection, [scope.org_id])
    return sorted(connection.scalars(organizations_in(credit_accounts)))


def having_accounts(connection: Connection, org_ids: Sequence[int]) -> list[int]:
    """Say which of some organizations have accounts: the one look-up that costs those that have none."""
    exists = "EXISTS (SELECT 1 FROM credit_accounts WHERE credit_accounts.org_id = asked.org_id)"
    if is_sqlite(connection):
        padded = [*org_ids, *([org_ids[-1]] * ((1 << (len(org_ids) - 1).bit_length()) - len(org_ids)))]
        values = ", ".join(["(?)"] * len(padded))
        statement = f"WITH asked (org_id) AS (VALUES {values}) SELECT DISTINCT org_id FROM asked WHERE {exists}"
        return sorted(org_id for (org_id,) in connection.exec_driver_sql(statement, tuple(padded)))
    statement = f"WITH asked (org_id) AS (SELECT unnest(%s::bigint[])) SELECT org_id FROM asked WHERE {exists}"
    return sorted(org_id for (org_id,) in connection.exec_driver_sql(statement, (list(org_ids),)))


def charged_accounts(connection: Connection, rows: Sequence[RowValues]) -> dict[AccountKey, Account]:
    """Read the accounts that rows may be charged to; of organizations without any, one look-up is all that it costs."""
    having = having_accounts(connection, sorted({row[_ORG_ID] for row in rows}))
    wanted: dict[int, set[str]] = {org_id: set() for org_id in having}
    for row in rows if having else ():
        if row[_ORG_ID] in wanted:
            wanted[row[_ORG_ID]].update(_owner_keys(row))
    found: dict[AccountKey, Account] = {}
    for org_id, owner_keys in wanted.items():
        for part in chunks(sorted(owner_keys)):
            found.update(_of_owners(connection, org_id, part))
    return found


def account_of_row(accounts: Mapping[AccountKey, Account], row: RowValues, currency: str | None) -> Account | None:
    """Choose who is charged: the user's account, else the project's, else the organization's; None: nobody."""
    if currency is None:
        return None
    org_id = row[_ORG_ID]
    for owner_key in _owner_keys(row):
        account = accounts.get((org_id, owner_key, currency))
        if account is not None:
            return account
    return None


def _owner_keys(row: RowValues) -> list[str]:
    keys = ["o:"]
    if row[_PROJECT] is not None:
        keys.insert(0, f"p:{row[_PROJECT]}")
    if row[_USER] is not None:
        keys.insert(0, f"u:{row[_USER]}")
    return keys


def _of_owners(connection: Connection, org_id: int, owner_keys: Collection[str]) -> dict[AccountKey, Account]:
    database = connection.dialect.name
    is_asked, asked = among("owner_key", list(owner_keys), database)
    names = ", ".join(column.name for column in credit_accounts.columns)
    found = connection.exec_driver_sql(
        f"SELECT {names} FROM credit_accounts WHERE org_id = {marks(1, database)} AND {is_asked}", (org_id, *asked)
    )
    return {(org_id, row.owner_key, row.currency): _account(row) for row in found}


def _is(account: Account) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return credit_accounts.c.org_id == account.org_id, credit_accounts.c.account_id == account.account_id


def _threshold(low_balance: Decimal | None) -> int | None:
    """Read a threshold of either sign, in pico-credits."""
    if low_balance is None:
        return None
    checked_decimal("low_balance", abs(low_balance), most=Decimal(MAX_AMOUNT_PICO // PICO))
    return to_pico(low_balance)


def _name(field: str, text: str) -> str:
    """Write a name as rows hold it."""
    name = bounded_name(text)
    if name is None:
        raise InvalidInput(field, "expected a name, got an empty text")
    return name


_SELECT: Final[Select[Any]] = select(credit_accounts)


def _account(row: Row[Any]) -> Account:
    kind, _, owner = row.owner_key.partition(":")
    return Account(
        row.org_id,
        row.account_id,
        _KINDS[kind],
        owner,
        row.currency,
        Decimal(row.rate),
        row.name,
        row.created_at_us,
        row.low_balance_pico,
        row.low_since_us,
    )
