"""`farebox prices override|alias|multiplier`: what an administrator decides about prices, from the command line.

`set` makes the thing, or changes the one that already has the names; both hold from now on unless a date is given.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

from msgspec import UNSET
from sqlalchemy import Connection, Engine

from farebox_ledger.commands.moments import moment, time_text
from farebox_ledger.commands.opening import opened_database, print_json
from farebox_ledger.errors import Conflict, NotFound
from farebox_ledger.money import decimal_text
from farebox_ledger.pricing.units import table_in_unit
from farebox_ledger.store.aliases import (
    AdministeredAlias,
    AliasChange,
    AliasDraft,
    AliasTarget,
    change_alias,
    create_alias,
    delete_alias,
    list_aliases,
)
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.multipliers import (
    MultiplierChange,
    MultiplierDraft,
    PriceMultiplier,
    change_multiplier,
    create_multiplier,
    delete_multiplier,
    list_multipliers,
)
from farebox_ledger.store.organizations import organization_by_slug, organizations_by_id
from farebox_ledger.store.overrides import (
    OverrideChange,
    OverrideDraft,
    PriceOverride,
    change_override,
    create_override,
    delete_override,
    list_overrides,
)
from farebox_ledger.store.prices import ensure_shipped_prices
from farebox_ledger.store.scope import AllOrganizations, OrgScope, Scope
from farebox_ledger.store.subjects import Subject, Term, now_us, standing_term

_EVERYBODY = AllOrganizations()
_MAX_LISTED = 10_000


def add_administration_commands(commands: Any) -> None:
    """Add the commands of price administration to those of `farebox prices`."""
    setting = _group(
        commands, "override", "prices of your own", listed=list_overrides, shown=_override, deleted=delete_override
    )
    setting.add_argument("provider", metavar="PROVIDER")
    setting.add_argument("model", metavar="MODEL")
    setting.add_argument(
        "--price", action="append", type=_price, default=[], metavar="DIMENSION=AMOUNT",
        help="such as input_tokens=2.5; may be repeated",
    )  # fmt: skip
    setting.add_argument("--unit", choices=("token", "1k", "1m"), help="how many tokens a price is for")
    setting.add_argument("--currency", default="USD", metavar="CODE", help="ISO 4217 (USD)")
    setting.add_argument("--inherit", action="store_true", help="keep the catalog's price of what is not priced here")
    setting.add_argument("--free", action="store_true", help="declare that calls cost nothing")
    setting.set_defaults(run=_set_override)

    setting = _group(commands, "alias", "names for models", listed=list_aliases, shown=_alias, deleted=delete_alias)
    setting.add_argument("alias", metavar="NAME", help="the name that calls carry")
    setting.add_argument("target_model", metavar="MODEL", help="the model that it stands for")
    setting.add_argument("--provider", help="in calls of this provider alone")
    setting.add_argument("--target-provider", help="the model's provider, where it is another one")
    setting.set_defaults(run=_set_alias)

    setting = _group(
        commands,
        "multiplier",
        "factors on list prices",
        listed=list_multipliers,
        shown=_multiplier,
        deleted=delete_multiplier,
    )
    setting.add_argument("factor", type=_decimal, metavar="FACTOR", help="above 0, at most 1000")
    setting.add_argument("--upstream", help="of calls through this upstream alone")
    setting.add_argument("--provider", help="of this provider's calls alone")
    setting.set_defaults(run=_set_multiplier)


def _group(
    commands: Any,
    name: str,
    what: str,
    *,
    listed: Callable[..., Any],
    shown: Callable[..., Any],
    deleted: Callable[..., Any],
) -> argparse.ArgumentParser:
    actions = commands.add_parser(name, help=f"{what}: set, list, delete").add_subparsers(
        required=True, metavar="ACTION"
    )
    setting: argparse.ArgumentParser = actions.add_parser("set", help="make one, or change the one with these names")
    setting.add_argument("--org", metavar="SLUG", help="for this organization alone (everybody)")
    setting.add_argument("--from", dest="effective_from", type=moment, metavar="T", help="from when, RFC 3339")
    setting.add_argument("--to", dest="effective_to", type=moment, metavar="T", help="until when, RFC 3339")
    setting.add_argument("--notes", help="a note for whoever asks why")

    listing = actions.add_parser("list", help="list them, oldest first")
    listing.add_argument("--org", metavar="SLUG", help="those that hold for this organization (all)")
    listing.set_defaults(run=lambda options: _list(options, listed, shown))

    deleting = actions.add_parser("delete", help="end one now; calls of its time keep it")
    deleting.add_argument("id", metavar="ID")
    deleting.set_defaults(run=lambda options: _delete(options, deleted))
    for action in (setting, listing, deleting):
        action.add_argument("--json", action="store_true", help="print JSON")
    return setting


def _set_override(options: argparse.Namespace) -> int:
    prices = dict(options.price)
    draft = OverrideDraft(
        provider=options.provider,
        model=options.model,
        prices=prices,
        unit=options.unit,
        currency=options.currency,
        inherit=options.inherit,
        free=options.free,
        notes=options.notes,
        effective_from_us=options.effective_from,
        effective_to_us=options.effective_to,
    )
    change = OverrideChange(
        prices=prices,
        unit=options.unit or UNSET,
        currency=options.currency,
        inherit=options.inherit,
        free=options.free,
        **_dates(options),
    )
    return _set(
        options,
        lambda connection, scope: create_override(connection, scope, draft),
        lambda connection, scope, identity: change_override(connection, scope, identity, change),
        _override,
    )


def _set_alias(options: argparse.Namespace) -> int:
    target = AliasTarget(target_model=options.target_model, target_provider=options.target_provider)
    draft = AliasDraft(
        alias=options.alias,
        target=target,
        provider=options.provider,
        notes=options.notes,
        effective_from_us=options.effective_from,
        effective_to_us=options.effective_to,
    )
    change = AliasChange(target_model=target.target_model, target_provider=target.target_provider, **_dates(options))
    return _set(
        options,
        lambda connection, scope: create_alias(connection, scope, draft),
        lambda connection, scope, identity: change_alias(connection, scope, identity, change),
        _alias,
    )


def _set_multiplier(options: argparse.Namespace) -> int:
    draft = MultiplierDraft(
        factor=options.factor,
        upstream=options.upstream,
        provider=options.provider,
        notes=options.notes,
        effective_from_us=options.effective_from,
        effective_to_us=options.effective_to,
    )
    change = MultiplierChange(factor=options.factor, **_dates(options))
    return _set(
        options,
        lambda connection, scope: create_multiplier(connection, scope, draft),
        lambda connection, scope, identity: change_multiplier(connection, scope, identity, change),
        _multiplier,
    )


def _set(
    options: argparse.Namespace,
    create: Callable[[Connection, Scope], Subject],
    change: Callable[[Connection, Scope, str], Subject],
    shown: Callable[[Any], dict[str, Any]],
) -> int:
    with opened_database() as engine:
        ensure_shipped_prices(engine)
        scope = _scope(engine, options.org)
        with transaction(engine, scope, write=True) as connection:
            try:
                made = create(connection, scope)
            except Conflict as standing:  # nothing is written yet
                if standing.conflicting_id is None:
                    raise
                made = change(connection, scope, standing.conflicting_id)
            (answer,) = _answers(connection, [made], shown)
    if options.json:
        print_json(answer)
    else:
        print(_line(answer))
    return 0


def _list(options: argparse.Namespace, listed: Callable[..., Any], shown: Callable[[Any], dict[str, Any]]) -> int:
    with opened_database() as engine:
        scope = _scope(engine, options.org)
        with transaction(engine, scope) as connection:
            answers = _answers(connection, listed(connection, scope, limit=_MAX_LISTED), shown)
    if options.json:
        print_json(answers)
        return 0
    for answer in answers:
        print(_line(answer))
    return 0


def _delete(options: argparse.Namespace, deleted: Callable[..., None]) -> int:
    with opened_database() as engine, transaction(engine, _EVERYBODY, write=True) as connection:
        deleted(connection, _EVERYBODY, options.id)
    if options.json:
        print_json({"id": options.id})
    else:
        print(f"{options.id} ends now")
    return 0


def _scope(engine: Engine, slug: str | None) -> Scope:
    if slug is None:
        return _EVERYBODY
    with transaction(engine, _EVERYBODY) as connection:
        found = organization_by_slug(connection, slug)
    if found is None:
        raise NotFound("organization", slug)
    return OrgScope(found.org_id)


def _dates(options: argparse.Namespace) -> dict[str, Any]:
    """What a change says of dates and notes: only what was given."""
    given = {
        "effective_from_us": options.effective_from,
        "effective_to_us": options.effective_to,
        "notes": options.notes,
    }
    return {name: value for name, value in given.items() if value is not None}


def _answers(
    connection: Connection, found: Iterable[Subject], shown: Callable[[Any], dict[str, Any]]
) -> list[dict[str, Any]]:
    found = list(found)
    owners = organizations_by_id(connection, {one.org_id for one in found if one.org_id is not None})
    return [
        {
            "id": one.id,
            "org": None if one.org_id is None else owners[one.org_id].slug,
            **shown(one),
            "is_active": one.is_active,
            "notes": one.notes,
        }
        for one in found
    ]


def _override(override: PriceOverride) -> dict[str, Any]:
    term = standing_term(override.terms, now_us())
    return {
        "provider": override.provider,
        "model": override.model,
        "currency": term.price.currency,
        "unit": override.unit,
        "prices": table_in_unit(term.price.rates.standard, override.unit),
        "inherit": term.price.rates.inherits,
        "free": term.price.rates.free,
        "price_id": term.id,
        **_held(term),
    }


def _alias(alias: AdministeredAlias) -> dict[str, Any]:
    term = standing_term(alias.terms, now_us())
    target = term.target
    return {
        "alias": alias.alias,
        "provider": alias.provider,
        "target_provider": target.target_provider,
        "target_model": target.target_model,
        "model_config": target.model_config_id,
        **_held(term),
    }


def _multiplier(multiplier: PriceMultiplier) -> dict[str, Any]:
    term = standing_term(multiplier.terms, now_us())
    return {
        "upstream": multiplier.upstream,
        "provider": multiplier.provider,
        "factor": decimal_text(term.factor),
        **_held(term),
    }


def _held(term: Term) -> dict[str, Any]:
    ends = {"effective_from": term.effective_from_us, "effective_to": term.effective_to_us}
    return {name: None if time_us is None else time_text(time_us) for name, time_us in ends.items()}


def _line(answer: dict[str, Any]) -> str:
    shown = {name: value for name, value in answer.items() if value not in (None, False, {}) and name != "is_active"}
    if not answer["is_active"]:
        shown["is_active"] = False
    return "  ".join(str(value) if name == "id" else f"{name} {_text(value)}" for name, value in shown.items())


def _text(value: Any) -> str:
    return ", ".join(f"{name} {price}" for name, price in value.items()) if isinstance(value, dict) else str(value)


def _price(text: str) -> tuple[str, Decimal]:
    dimension, equals, amount = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: expected DIMENSION=AMOUNT such as input_tokens=2.5")
    return dimension.strip(), _decimal(amount)


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a decimal such as 2.5") from None
