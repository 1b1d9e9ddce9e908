"""The data of a genai-prices wheel, read without running any of its code.

Comes in: the bytes of a wheel, whose `data.py` and `data_units.py` are literals in Python. Goes out: an `Archive`. Only
used by a maintainer (`make_snapshots`); a construct that it does not know stops it, so that nothing is lost unseen.

genai-prices finds models by patterns: equal, prefix, part, regular expression. Only names that are written out become
names here. A model's id is one of them where genai-prices itself would find the model by it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final, TypeAlias

import msgspec

from farebox_ledger.catalog.archive_file import (
    Archive,
    ArchivedModel,
    ArchivedProvider,
    ArchivedUnit,
    ContextRates,
    DatedRates,
    ListedRate,
    TieredRate,
)
from farebox_ledger.errors import InvalidInput

# genai-prices' own words on a price that is OpenRouter's, and on one that was confirmed since.
_BORROWED: Final = "Imported from OpenRouter pricing; verify"
_CONFIRMED: Final = "Verified against"

_Literal: TypeAlias = Any  # a value of an untyped Python literal; each is checked where it is read


class _Made(msgspec.Struct, frozen=True):
    """A constructor call in the literal: `ClauseEquals(equals='o3')`."""

    name: str
    positional: tuple[_Literal, ...]
    fields: dict[str, _Literal]

    def __getitem__(self, field: str) -> _Literal:
        return self.fields.get(field)


def archive_of(revision: str, data: str, units: str) -> Archive:
    """Read the sources of `genai_prices/data.py` and `genai_prices/data_units.py`.

    Raises:
        InvalidInput: the literals are not as expected; names the construct.
    """
    providers = _literal(data, "providers", list)
    left_out: Counter[str] = Counter()
    for clause in (clause for provider in providers for model in provider["models"] for clause in _leaves(model)):
        if clause.name != "ClauseEquals":
            left_out[clause.name.removeprefix("Clause").lower()] += 1
    return Archive(
        revision=revision,
        units={
            unit["price_key"]: ArchivedUnit(usage, unit["per"])
            for usage, unit in _literal(units, "unit_data", dict).items()
        },
        providers=tuple(_provider(provider) for provider in providers),
        inexact_clauses=dict(sorted(left_out.items())),
    )


def _literal(source: str, name: str, kind: type) -> _Literal:
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == name and statement.value:
            value = _value(statement.value)
            if isinstance(value, kind):
                return value
    raise InvalidInput("wheel", f"expected a literal named {name}, found none: the layout of genai-prices has changed")


def _value(node: ast.expr) -> _Literal:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True) if key}
        case ast.Attribute(attr="UTC"):
            return "UTC"
        case ast.Call(func=function, args=args, keywords=keywords):
            return _made(ast.unparse(function), [_value(arg) for arg in args], keywords)
    raise InvalidInput("wheel", f"expected literals, got {ast.unparse(node)[:80]!r} in line {node.lineno}")


def _made(name: str, positional: list[_Literal], keywords: Sequence[ast.keyword]) -> _Literal:
    if name == "Decimal":
        return Decimal(positional[0])
    if name == "datetime.date":
        return date(*positional)
    return _Made(name, tuple(positional), {keyword.arg or "**": _value(keyword.value) for keyword in keywords})


def _provider(provider: _Made) -> ArchivedProvider:
    models: list[_Made] = provider["models"]
    urls = provider["pricing_urls"]
    return ArchivedProvider(provider["id"], tuple(_model(model, models) for model in models), urls[0] if urls else None)


def _model(model: _Made, models: Sequence[_Made]) -> ArchivedModel:
    listed = model["prices"]
    prices = [_dated(one) for one in listed] if isinstance(listed, list) else [DatedRates(_rates(listed))]
    names = [model["id"]] if _is_name(model["id"]) and _found_by(model["id"], models) is model else []
    names += [name for name in _exact_names(model["match"]) if _found_by(name, models) is model]
    comments = model["price_comments"] or ""
    return ArchivedModel(
        model["id"],
        tuple(dict.fromkeys(names)),
        tuple(prices),
        tuple(_in_context(variant) for variant in model["price_variants"] or ()),
        is_borrowed=_BORROWED in comments and _CONFIRMED not in comments,
    )


def _is_name(identity: str) -> bool:
    """Tell an id that is a name from `ft:gpt-3.5-turbo-`, the beginning of names, and `regional.…`, a label."""
    return not identity.endswith("-") and not identity.startswith("regional.")


def _dated(conditional: _Made) -> DatedRates:
    rates, constraint = _rates(conditional["prices"]), conditional["constraint"]
    if constraint is not None and constraint.name == "TimeOfDateConstraint":
        return DatedRates(rates, minutes=(_minute(constraint["start_time"]), _minute(constraint["end_time"])))
    return DatedRates(rates, since=_since(constraint))


def _in_context(variant: _Made) -> ContextRates:
    return ContextRates(variant["when"], _rates(variant["prices"]), _since(variant["constraint"]))


def _since(constraint: _Made | None) -> date | None:
    if constraint is None:
        return None
    if constraint.name != "StartDateConstraint":
        raise InvalidInput("wheel", f"expected a start date, got {constraint.name}")
    start: date = constraint["start_date"]
    return start


def _minute(time: _Made) -> int:
    if time.name != "datetime.time" or len(time.positional) != 2 or time["tzinfo"] != "UTC":
        raise InvalidInput("wheel", f"expected an hour and a minute in UTC, got {time}")
    hour, minute = time.positional
    return int(hour) * 60 + int(minute)


def _rates(prices: _Made) -> dict[str, ListedRate]:
    return {key: _rate(rate) for key, rate in prices.fields.items() if rate is not None}


def _rate(rate: _Literal) -> ListedRate:
    if isinstance(rate, Decimal):
        return rate
    if isinstance(rate, _Made) and rate.name == "TieredPrices":
        return TieredRate(rate["base"], tuple(sorted((tier["start"], tier["price"]) for tier in rate["tiers"])))
    raise InvalidInput("wheel", f"expected a price, got {rate!r}")


def _leaves(model: _Made) -> Iterator[_Made]:
    waiting: list[_Made] = [model["match"]]
    while waiting:
        clause = waiting.pop()
        inner = clause["or_"] or clause["and_"]
        if inner:
            waiting.extend(inner)
        else:
            yield clause


def _exact_names(clause: _Made) -> Iterator[str]:
    """Go through the names that are written out and suffice alone."""
    if clause.name == "ClauseEquals":
        yield clause["equals"]
    elif clause.name == "ClauseOr":
        for alternative in clause["or_"]:
            yield from _exact_names(alternative)


def _found_by(name: str, models: Sequence[_Made]) -> _Made | None:
    """Answer the model that genai-prices finds by a name: the first whose clause holds."""
    lowered = name.lower()
    return next((model for model in models if _holds(model["match"], lowered)), None)


_LEAF_TESTS: Final[Mapping[str, Any]] = {
    "ClauseEquals": lambda clause, name: name == clause["equals"].lower(),
    "ClauseStartsWith": lambda clause, name: name.startswith(clause["starts_with"].lower()),
    "ClauseEndsWith": lambda clause, name: name.endswith(clause["ends_with"].lower()),
    "ClauseContains": lambda clause, name: clause["contains"].lower() in name,
    "ClauseRegex": lambda clause, name: re.search(clause["regex"], name) is not None,
}


def _holds(clause: _Made, name: str) -> bool:
    if clause.name == "ClauseOr":
        return any(_holds(alternative, name) for alternative in clause["or_"])
    if clause.name == "ClauseAnd":
        return all(_holds(condition, name) for condition in clause["and_"])
    if clause.name not in _LEAF_TESTS:
        raise InvalidInput("wheel", f"expected a clause that is known, got {clause.name}")
    return bool(_LEAF_TESTS[clause.name](clause, name))
