"""`farebox credits`: accounts, grants, purchases, adjustments, voids, balances and transactions.

Arguments come in, text or JSON goes to standard output, the exit code goes back.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, get_args

from sqlalchemy import Connection

from farebox_ledger.commands.moments import moment, time_text
from farebox_ledger.commands.opening import guarded, opened_database, print_json
from farebox_ledger.commands.tables import print_table
from farebox_ledger.credits import (
    Adjustment,
    Balance,
    Granting,
    Purchase,
    adjust,
    balance_of,
    grant_balances,
    grant_credits,
    purchase_hook,
    record_purchase,
    void_grant,
)
from farebox_ledger.credits.granting import DEFAULT_PRIORITY
from farebox_ledger.errors import NotFound
from farebox_ledger.money import decimal_text, pico_text
from farebox_ledger.store.credit_accounts import (
    Account,
    Owner,
    create_account,
    find_account,
    get_account,
    list_accounts,
    set_low_balance,
)
from farebox_ledger.store.credit_grants import Grant, get_grant, grant_id_of, grant_text
from farebox_ledger.store.credit_ledger import (
    Transaction,
    TransactionFilter,
    list_transactions,
    transaction_text,
)
from farebox_ledger.store.credit_tables import TransactionType
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.organizations import organization_by_slug
from farebox_ledger.store.scope import AllOrganizations

_DESCRIPTION = """\
Credits: what organizations, projects and users may use up. A call is deducted from its user's account, else from its
project's, else from the organization's. Without --user and --project the organization's own account is meant."""

_EVERYBODY = AllOrganizations()
_ACTOR = "command line"
_MAX_LISTED = 500


def credits(arguments: Sequence[str]) -> int:  # noqa: A001  # the command's name
    """Keep credit accounts: open, warn, grant, purchase, adjust, void, balance, transactions.

    The exit code: 0 done, 1 refused, 2 wrong use.
    """
    options = _parser().parse_args(arguments)
    return guarded("farebox credits", lambda: options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("farebox credits", description=_DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_reading, _add_writing):
        add(commands)
    return parser


def _add_reading(commands: Any) -> None:
    listing = _command(commands, "accounts", "list an organization's accounts with their balances", _accounts)
    listing.add_argument("--limit", type=_limit, default=_MAX_LISTED, metavar="N", help="accounts to show (500)")

    balance = _command(commands, "balance", "what an account has, and what it is made of", _balance)
    _add_holder(balance)
    balance.add_argument("--as-of", type=moment, metavar="T", help="as of then (RFC 3339; now)")

    listed = _command(commands, "transactions", "movements of an account, newest first", _transactions)
    _add_holder(listed)
    listed.add_argument("--type", choices=get_args(TransactionType), metavar="TYPE", help="only of this type")
    listed.add_argument("--limit", type=_limit, default=50, metavar="N", help="transactions to show (50)")


def _add_writing(commands: Any) -> None:
    opening = _command(commands, "open", "open an account", _open)
    _add_holder(opening)
    opening.add_argument("--rate", type=_decimal, default=Decimal(1), help="credits per unit of the currency (1)")
    opening.add_argument("--name", help="a name for people")
    opening.add_argument("--low-balance", type=_decimal, metavar="N", help="tell webhooks when the balance sinks to it")

    warning = _command(commands, "warn", "tell webhooks when the balance sinks to an amount", _warn)
    _add_holder(warning)
    warning.add_argument(
        "low_balance", type=_threshold, metavar="AMOUNT", help="credits, such as 10; never: tell nobody"
    )

    granting = _command(commands, "grant", "give credits", _grant)
    _add_amount(granting)
    granting.add_argument("--initial", action="store_true", help="the grant that an account begins with")
    granting.add_argument("--effective-at", type=moment, metavar="T", help="from then on (RFC 3339; now)")
    granting.add_argument("--external-id", metavar="ID", help="told again, it is done once")

    buying = _command(commands, "purchase", "record credits that were paid for", _purchase)
    _add_amount(buying)
    buying.add_argument(
        "--external-id", required=True, metavar="ID", help="the payment's id; told again, it counts once"
    )
    buying.add_argument("--paid", type=_decimal, metavar="PRICE", help="what it cost, in the account's currency")
    for command in (granting, buying):
        command.add_argument("--priority", type=int, default=DEFAULT_PRIORITY, help="the lower is used first (100)")
        command.add_argument("--expires-at", type=moment, metavar="T", help="what is left then lapses (never)")
        command.add_argument("--description", help="what it is for")

    adjusting = _command(commands, "adjust", "correct an account by hand; below 0 takes off", _adjust)
    _add_amount(adjusting)
    adjusting.add_argument("--description", required=True, help="why")
    adjusting.add_argument("--refund", action="store_true", help="credits that are given back")
    adjusting.add_argument("--external-id", metavar="ID", help="told again, it is done once")

    voiding = _command(commands, "void", "end a grant now and take back what is left of it", _void)
    voiding.add_argument("id", metavar="GRANT", help="the grant's id")
    voiding.add_argument("--reason", required=True, help="why")


def _command(commands: Any, name: str, what: str, run: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=what, description=what)
    command.add_argument("--org", required=True, metavar="SLUG", help="the organization")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=run)
    return command


def _add_holder(command: argparse.ArgumentParser) -> None:
    owner = command.add_mutually_exclusive_group()
    owner.add_argument("--user", help="the account of this user")
    owner.add_argument("--project", help="the account of this project")
    command.add_argument("--currency", default="USD", help="the account in this currency (USD)")


def _add_amount(command: argparse.ArgumentParser) -> None:
    _add_holder(command)
    command.add_argument("amount", type=_decimal, metavar="AMOUNT", help="credits, such as 25 or 0.5")


def _accounts(options: argparse.Namespace) -> None:
    with opened_database() as engine, transaction(engine, _EVERYBODY) as connection:
        found = list_accounts(connection, _EVERYBODY, _org_id(connection, options.org), limit=options.limit)
        balances = [balance_of(connection, one) for one in found]
    if options.json:
        print_json([_account_answer(one.account) | {"balance": pico_text(one.balance_pico)} for one in balances])
    else:
        titles = ("ID", "OWNER", "CURRENCY", "RATE", "BALANCE", "WARNS AT")
        print_table(titles, [_account_cells(one) for one in balances])


def _balance(options: argparse.Namespace) -> None:
    with opened_database() as engine, transaction(engine, _EVERYBODY) as connection:
        account = _account(connection, options)
        found = balance_of(connection, account, as_of_us=options.as_of)
        grants, owed_pico = grant_balances(connection, account)
    if options.json:
        left = {grant_text(one.grant.grant_id): pico_text(one.remaining_pico) for one in grants}
        print_json(balance_answer(found) | {"grants_remaining": left, "owed": pico_text(owed_pico)})
        return
    print(f"{_owner_text(account)}: {pico_text(found.balance_pico)} credits ({account.currency})")
    for kind, pico in sorted(found.by_type.items()):
        print(f"  {kind}  {pico_text(pico)}")


def _transactions(options: argparse.Namespace) -> None:
    with opened_database() as engine, transaction(engine, _EVERYBODY) as connection:
        account = _account(connection, options)
        asked = TransactionFilter(
            account_id=account.account_id, types=None if options.type is None else (options.type,)
        )
        found = list_transactions(connection, _EVERYBODY, account.org_id, asked, limit=options.limit)
    if options.json:
        print_json([_transaction_answer(one) for one in found])
    else:
        print_table(
            ("OCCURRED", "TYPE", "AMOUNT", "DESCRIPTION"),
            [
                (time_text(one.occurred_at_us), one.type, pico_text(one.amount_pico), one.description or "")
                for one in found
            ],
        )


def _open(options: argparse.Namespace) -> None:
    with opened_database() as engine, transaction(engine, _EVERYBODY, write=True) as connection:
        made = create_account(
            connection,
            _EVERYBODY,
            _org_id(connection, options.org),
            Owner(options.user, options.project),
            currency=options.currency,
            rate=options.rate,
            name=options.name,
            low_balance=options.low_balance,
        )
    if options.json:
        print_json(_account_answer(made))
    else:
        print(f"opened {made.account_id} of {_owner_text(made)} in {made.currency}")


def _warn(options: argparse.Namespace) -> None:
    with opened_database() as engine, transaction(engine, _EVERYBODY, write=True) as connection:
        account = _account(connection, options)
        made = set_low_balance(connection, _EVERYBODY, account.org_id, account.account_id, options.low_balance)
    if options.json:
        print_json(_account_answer(made))
    else:
        told = "never" if made.low_balance_pico is None else f"at {pico_text(made.low_balance_pico)} credits"
        print(f"webhooks are told of {made.account_id} {told}")


def _grant(options: argparse.Namespace) -> None:
    granting = Granting(
        amount=options.amount,
        kind="initial_grant" if options.initial else "grant",
        priority=options.priority,
        effective_at_us=options.effective_at,
        expires_at_us=options.expires_at,
        external_id=options.external_id,
        description=options.description,
    )
    with opened_database() as engine, transaction(engine, _EVERYBODY, write=True) as connection:
        made, is_new = grant_credits(connection, _account(connection, options), granting, actor=_ACTOR)
    _show_grant(options, made, "gave" if is_new else "had given")


def _purchase(options: argparse.Namespace) -> None:
    purchase = Purchase(
        amount=options.amount,
        external_id=options.external_id,
        paid=options.paid,
        priority=options.priority,
        expires_at_us=options.expires_at,
        description=options.description,
    )
    with opened_database() as engine:
        with transaction(engine, _EVERYBODY) as connection:
            account = _account(connection, options)
        purchase_hook().verify(account, purchase)
        with transaction(engine, _EVERYBODY, write=True) as connection:
            made, is_new = record_purchase(connection, account, purchase, actor=_ACTOR)
    _show_grant(options, made, "recorded" if is_new else "had recorded")


def _adjust(options: argparse.Namespace) -> None:
    adjustment = Adjustment(
        amount=options.amount,
        description=options.description,
        kind="refund" if options.refund else "adjustment",
        external_id=options.external_id,
    )
    with opened_database() as engine, transaction(engine, _EVERYBODY, write=True) as connection:
        made, _ = adjust(connection, _account(connection, options), adjustment, actor=_ACTOR)
    if options.json:
        print_json(_transaction_answer(made))
    else:
        print(f"moved {pico_text(made.amount_pico)} credits of {made.account_id}")


def _void(options: argparse.Namespace) -> None:
    with opened_database() as engine, transaction(engine, _EVERYBODY, write=True) as connection:
        org_id = _org_id(connection, options.org)
        standing = get_grant(connection, _EVERYBODY, org_id, grant_id_of(options.id))
        account = get_account(connection, _EVERYBODY, org_id, standing.account_id)
        ended = void_grant(connection, _EVERYBODY, account, standing.grant_id, options.reason)
    _show_grant(options, ended, "voided the grant of")


def _show_grant(options: argparse.Namespace, grant: Grant, done: str) -> None:
    if options.json:
        print_json(_grant_answer(grant))
    else:
        print(f"{done} {pico_text(grant.amount_pico)} credits of {grant.account_id}: {grant_text(grant.grant_id)}")


def balance_answer(balance: Balance) -> dict[str, Any]:
    """Write a balance as JSON."""
    return {
        "account": _account_answer(balance.account),
        "as_of": time_text(balance.as_of_us),
        "balance": pico_text(balance.balance_pico),
        "currency": balance.account.currency,
        "by_type": {kind: pico_text(pico) for kind, pico in sorted(balance.by_type.items())},
    }


def _account_answer(account: Account) -> dict[str, Any]:
    return {
        "id": account.account_id,
        "user": account.owner if account.owner_kind == "user" else None,
        "project": account.owner if account.owner_kind == "project" else None,
        "name": account.name,
        "currency": account.currency,
        "rate": decimal_text(account.rate),
        "low_balance": None if account.low_balance_pico is None else pico_text(account.low_balance_pico),
    }


def _grant_answer(grant: Grant) -> dict[str, Any]:
    return {
        "id": grant_text(grant.grant_id),
        "account": grant.account_id,
        "kind": grant.kind,
        "amount": pico_text(grant.amount_pico),
        "priority": grant.priority,
        "effective_at": time_text(grant.effective_at_us),
        "expires_at": None if grant.expires_at_us is None else time_text(grant.expires_at_us),
        "external_id": grant.external_id,
        "description": grant.description,
        "voided_at": None if grant.voided_at_us is None else time_text(grant.voided_at_us),
    }


def _transaction_answer(made: Transaction) -> dict[str, Any]:
    return {
        "id": transaction_text(made.source_id, made.step),
        "account": made.account_id,
        "type": made.type,
        "amount": pico_text(made.amount_pico),
        "currency": made.currency,
        "usage_id": None if made.usage_day is None else f"{made.usage_day}-{made.source_id.hex()}",
        "occurred_at": time_text(made.occurred_at_us),
        "description": made.description,
    }


def _account_cells(balance: Balance) -> tuple[str, ...]:
    account = balance.account
    rate, has = decimal_text(account.rate), pico_text(balance.balance_pico)
    warns_at = "" if account.low_balance_pico is None else pico_text(account.low_balance_pico)
    return (account.account_id, _owner_text(account), account.currency, rate, has, warns_at)


def _owner_text(account: Account) -> str:
    return account.owner_kind if account.owner_kind == "organization" else f"{account.owner_kind} {account.owner}"


def _account(connection: Connection, options: argparse.Namespace) -> Account:
    owner = Owner(options.user, options.project)
    return find_account(connection, _EVERYBODY, _org_id(connection, options.org), owner, options.currency)


def _org_id(connection: Connection, slug: str) -> int:
    found = organization_by_slug(connection, slug)
    if found is None:
        raise NotFound("organization", slug)
    return found.org_id


def _decimal(value: str) -> Decimal:
    try:
        return Decimal(value)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{value!r}: expected a decimal such as 25 or 0.5") from None


def _threshold(value: str) -> Decimal | None:
    return None if value == "never" else _decimal(value)


def _limit(value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= _MAX_LISTED:
        raise argparse.ArgumentTypeError(f"{value!r}: expected 1 to {_MAX_LISTED}")
    return int(value)
