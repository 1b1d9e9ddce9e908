"""One span that came more than once with different contents: which of its versions holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from farebox_ledger.usage import QUANTITIES, UsageEvent


def winner(events: Sequence[UsageEvent]) -> UsageEvent:
    """Choose among versions of one span, re-sent with different contents: the order of arrival has no say (rule 1)."""
    return events[0] if len(events) == 1 else max(events, key=version_rank)


def version_rank(event: UsageEvent) -> tuple[bool, int, int, bytes]:
    """Rank a version of a span: usage beats none, then the later end, the larger total, and a hash to break ties."""
    return (not event.usage.is_empty(), event.occurred_at_us, event.usage.total_tokens or 0, _content_hash(event))


def _content_hash(event: UsageEvent) -> bytes:
    """Hash the facts that decide the bill, and nothing that the books may store differently from what was sent."""
    usage = {name: str(value) for name in QUANTITIES if (value := getattr(event.usage, name)) is not None}
    writes = event.usage.cache_write_input_tokens
    if writes is not None:
        usage["cache_write_input_tokens"] = ",".join(f"{ttl}={count}" for ttl, count in sorted(writes.items()))
    facts: Iterable[object] = (
        event.kind,
        event.provider,
        event.request_model,
        event.response_model,
        event.response_id,
        event.operation,
        event.status,
        event.stream,
        event.service_tier,
        event.batch,
        event.region,
        event.tokens_source,
        event.usage_rule,
        sorted(usage.items()),
    )
    return blake2b(repr(tuple(facts)).encode(), digest_size=16).digest()
