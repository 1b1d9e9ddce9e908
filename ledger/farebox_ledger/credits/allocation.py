"""Who pays for what: usage against grants, in the order of usage time. Pure: no clock, no database.

Lots (what was granted) and spans of time with what was drawn in them come in; what each lot paid in each span goes out.
Nothing depends on the order in which anything became known. Within a span no lot begins or ends, so that the order of
its draws cannot change what each lot pays in all, and their sum is enough.

What no lot covers is owed. The next lot that begins pays it first, so that an account never has both, credits left and
something owed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from farebox_ledger.store.credit_allocations import UNCOVERED
from farebox_ledger.store.credit_grants import Grant
from farebox_ledger.store.timeline import DAY_US
from farebox_ledger.usage import day_of

_NEVER: Final = 2**63


class Span(msgspec.Struct, frozen=True):
    """A half-open span of time in which no grant begins or ends, and what was drawn in it, in pico-credits."""

    start_us: int
    end_us: int
    drawn_pico: int


def allocate(
    grants: Iterable[Grant], paid_before: Mapping[bytes, int], spans: Sequence[Span]
) -> dict[tuple[int, bytes], int]:
    """Find what each grant pays in each span: pico-credits by UTC day and grant, `UNCOVERED` where none does.

    `paid_before` holds what grants paid before the first span and, under `UNCOVERED`, what is owed since then. The
    values of a day sum to what was drawn on it.
    """
    ordered = sorted(grants, key=_order)
    left = {grant.grant_id: grant.amount_pico - paid_before.get(grant.grant_id, 0) for grant in ordered}
    owed = paid_before.get(UNCOVERED, 0)
    found: dict[tuple[int, bytes], int] = defaultdict(int)
    for span in sorted(spans, key=lambda one: one.start_us):
        day, rest = day_of(span.start_us), owed + span.drawn_pico
        for grant in ordered:
            if rest <= 0:
                break
            if _is_usable(grant, span.start_us):
                paid = min(rest, left[grant.grant_id])
                left[grant.grant_id] -= paid
                found[day, grant.grant_id] += paid
                rest -= paid
        found[day, UNCOVERED] += rest - owed
        owed = rest
    return {place: pico for place, pico in found.items() if pico}


def spans_of(grants: Iterable[Grant], drawn_days: Iterable[int], start_us: int) -> list[tuple[int, int]]:
    """Cut the days on which something was drawn, or a grant begins or ends, at those moments: half-open ranges.

    `drawn_days` are the starts of UTC days; nothing before `start_us`, itself the start of a day, is looked at.
    """
    cuts = sorted({moment for grant in grants for moment in _moments(grant) if moment >= start_us})
    days = sorted({day for day in drawn_days if day >= start_us} | {moment - moment % DAY_US for moment in cuts})
    ranges = []
    for day in days:
        bounds = [day, *(moment for moment in cuts if day < moment < day + DAY_US), day + DAY_US]
        ranges += list(pairwise(bounds))
    return ranges


def _moments(grant: Grant) -> list[int]:
    return [grant.effective_at_us] if grant.ends_at_us is None else [grant.effective_at_us, grant.ends_at_us]


def _is_usable(grant: Grant, at_us: int) -> bool:
    return grant.effective_at_us <= at_us and (grant.ends_at_us is None or at_us < grant.ends_at_us)


def _order(grant: Grant) -> tuple[int, int, bool, int, bytes]:
    """Priority, then what expires first, what was given before what was bought, the older, the id."""
    expires_at_us = _NEVER if grant.expires_at_us is None else grant.expires_at_us
    return (grant.priority, expires_at_us, grant.kind == "purchase", grant.effective_at_us, grant.grant_id)
