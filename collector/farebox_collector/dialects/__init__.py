"""Reads a span of any emitter as a usage event: who called what, and what was used. Knows no prices and no database.

The instrumentation scope decides which dialect reads a span, its keys decide second: the same key means different
things in different emitters. A dialect is one file that ends in a `Dialect`; adding one is adding it to `DIALECTS`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from farebox_collector.dialects import (
    agent_logs,
    anthropic_native,
    assembly,
    botocore,
    langfuse,
    litellm,
    openinference,
    openlit,
    openllmetry,
    pydantic_ai,
    semconv,
    strands,
    vercel,
)
from farebox_collector.dialects.dialect import Dialect
from farebox_collector.spans import Extract, Span
from farebox_ledger.usage import UsageEvent

__all__ = ["DIALECTS", "EXTRACTS", "KEYS", "LOG_KEYS", "LOG_MARKS", "MARKS", "Dialect", "identify_record", "read"]

DIALECTS: Final[tuple[Dialect, ...]] = (
    semconv.OWN,
    anthropic_native.ANTHROPIC_NATIVE,
    botocore.BOTOCORE,
    agent_logs.CLAUDE_CODE,
    agent_logs.CODEX,
    openlit.OPENLIT,
    litellm.LITELLM,
    langfuse.LANGFUSE,
    vercel.VERCEL,
    strands.STRANDS,
    pydantic_ai.PYDANTIC_AI,
    openinference.OPENINFERENCE,
    openllmetry.OPENLLMETRY,
    semconv.SEMCONV,
)
"""In the order in which they are asked; the last one takes whatever carries `gen_ai.*`."""

MARKS: Final = tuple(dict.fromkeys(mark for dialect in DIALECTS for mark in dialect.marks))
"""Bytes of which each span of an accepted emitter contains one."""

LOG_MARKS: Final = agent_logs.LOG_MARKS
"""Bytes of which each log record that reports a call contains one."""

KEYS: Final = assembly.KEYS.union(*(dialect.keys for dialect in DIALECTS))
"""The attributes that are kept; no other is ever written anywhere."""


EXTRACTS: Final[dict[str, Extract]] = {
    scope: extract for dialect in DIALECTS for scope, extract in dialect.extracts.items()
}
"""What is taken out of values that are not kept, by instrumentation scope."""

LOG_KEYS: Final = assembly.KEYS | agent_logs.LOG_KEYS
"""The attributes of log records that are kept."""

identify_record = agent_logs.identify


def read(span: Span) -> UsageEvent | None:
    """Read a span, None when it holds no generative-AI data after all.

    The organization, the key and the time of receipt are not the emitter's to say: they stay 0 and None.
    """
    of_scope = _dialect_of_scope(span.scope)
    if of_scope is not None:
        return of_scope.read(span)
    for dialect in DIALECTS:
        if dialect.recognizes(span.attributes):
            return dialect.read(span)
    return None


@lru_cache(maxsize=1024)
def _dialect_of_scope(scope: str) -> Dialect | None:
    return next((dialect for dialect in DIALECTS if dialect.owns(scope)), None)
