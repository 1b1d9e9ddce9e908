"""Which stored answers were booked already: a background answer is fetched many times and billed once.

Comes in: the ids of answers that carry usage. Goes out: whether this process sees the id for the first time.
"""

from __future__ import annotations

#: Twice as many as the largest batch has answers (Anthropic: 100,000); at most about 20 MB, for who fetches so many.
COUNTED_MAX = 200_000

_counted: dict[int, object] = {}


def is_first(answer_id: object) -> bool:
    """Whether this id was not seen before; never for what is no id. The oldest of 200,000 is forgotten first."""
    if not isinstance(answer_id, str) or not answer_id:
        return False
    mine = object()
    # One step, so that of two threads with the same answer one books it.
    if _counted.setdefault(hash(answer_id), mine) is not mine:
        return False
    if len(_counted) > COUNTED_MAX:
        _counted.pop(next(iter(_counted)), None)
    return True
