"""A year of plausible calls for five organizations: growth, quiet weekends, failures, and calls without a price.

A last day and a seed come in, events go out, day by day and in the order of time. The same day and seed give the same
calls with the same ids, so that booking them twice books them once. Nothing here reads a clock or writes anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sin, tau
from random import Random
from typing import Final

import msgspec

from farebox_ledger.usage import CallStatus, Usage, UsageEvent, org_id_of

DAYS: Final = 365
DIALECT: Final = "demo"

_DAY_US: Final = 86_400_000_000
_EMAIL_DOMAIN: Final = "example.com"


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What one feature of an application asks, and how often compared with the others."""

    service: str
    category: str
    provider: str
    model: str
    share: int
    input_tokens: int  # typical; a call has a third to three times as many
    output_tokens: int  # 0 for embeddings
    cached: float = 0.0  # share of the input that is read from the cache
    batch: bool = False


class DemoOrganization(msgspec.Struct, frozen=True, kw_only=True):
    """One customer: how many calls on a working day at the end of the year, and how that has grown since its start."""

    slug: str
    name: str
    calls_a_day: int
    growth: float
    users: int
    projects: tuple[str, ...]
    workloads: tuple[Workload, ...]


def _work(service: str, category: str, provider: str, model: str, share: int, **counts: float) -> Workload:
    sizes = {"input_tokens": int(counts.pop("input")), "output_tokens": int(counts.pop("output", 0))}
    batch = bool(counts.pop("batch", 0))
    return Workload(
        service=service, category=category, provider=provider, model=model, share=share, batch=batch,
        cached=counts.pop("cached", 0.0), **sizes,
    )  # fmt: skip


ORGANIZATIONS: Final = (
    DemoOrganization(
        slug="northwind", name="Northwind Traders", calls_a_day=220, growth=3.0, users=24,
        projects=("shop", "support"),
        workloads=(
            _work("shop-assistant", "chat", "openai", "gpt-4o-mini", 8, input=1800, output=320, cached=0.5),
            _work("shop-assistant", "router", "openai", "gpt-4.1-nano", 6, input=420, output=12),
            _work("support-desk", "rag", "anthropic", "claude-sonnet-4-5", 4, input=6500, output=540, cached=0.7),
            _work("search", "embedding", "openai", "text-embedding-3-small", 10, input=260),
        ),
    ),
    DemoOrganization(
        slug="initech", name="Initech", calls_a_day=140, growth=1.4, users=40,
        projects=("reports", "code-review"),
        workloads=(
            _work("code-review", "agent", "anthropic", "claude-sonnet-4-5", 6, input=18_000, output=1500, cached=0.8),
            _work("reports", "summary", "openai", "gpt-4.1", 4, input=9000, output=900),
            _work("reports", "summary", "openai", "gpt-4.1-mini", 3, input=7000, output=700, batch=1),
        ),
    ),
    DemoOrganization(
        slug="globex", name="Globex", calls_a_day=90, growth=6.0, users=12,
        projects=("translation", "vision"),
        workloads=(
            _work("translation", "translate", "mistral_ai", "mistral-large-latest", 5, input=1400, output=1300),
            _work("vision", "extract", "gcp.gen_ai", "gemini-2.5-flash", 6, input=2600, output=220),
            _work("vision", "extract", "gcp.gen_ai", "gemini-2.5-pro", 2, input=5200, output=800, cached=0.3),
        ),
    ),
    DemoOrganization(
        slug="hooli", name="Hooli", calls_a_day=180, growth=0.6, users=60,
        projects=("assistant",),
        workloads=(
            _work("assistant", "chat", "openai", "gpt-4o", 5, input=2400, output=420, cached=0.4),
            _work("assistant", "chat", "groq", "llama-3.3-70b-versatile", 4, input=1600, output=380),
            # A model of its own, which no catalog knows: these rows wait for a price.
            _work("assistant", "chat", "openai", "hooli-nucleus-1", 1, input=1500, output=300),
        ),
    ),
    DemoOrganization(
        slug="acme", name="Acme", calls_a_day=40, growth=2.0, users=5,
        projects=("playground",),
        workloads=(
            _work("notebook", "experiment", "anthropic", "claude-haiku-4-5", 4, input=2200, output=600),
            _work("notebook", "experiment", "cohere", "command-r-plus-08-2024", 2, input=1900, output=500),
            _work("search", "embedding", "openai", "text-embedding-3-large", 3, input=300),
        ),
    ),
)  # fmt: skip


def demo_events(last_day_start_us: int, *, now_us: int, seed: int = 1, days: int = DAYS) -> Iterator[list[UsageEvent]]:
    """Make the calls of some days that end with the one beginning at `last_day_start_us`, a list for each day.

    Calls later than `now_us` are left out, so that the last day holds what has happened by now.
    """
    for number in range(days):
        start_us = last_day_start_us - (days - 1 - number) * _DAY_US
        events = [
            event
            for organization in ORGANIZATIONS
            for event in _calls_of_day(organization, start_us, (DAYS - days + number) / (DAYS - 1), seed)
        ]
        yield sorted((event for event in events if event.occurred_at_us <= now_us), key=_moment)


def _moment(event: UsageEvent) -> tuple[int, bytes]:
    return event.occurred_at_us, event.span_id


def _calls_of_day(
    organization: DemoOrganization, start_us: int, through_year: float, seed: int
) -> Iterator[UsageEvent]:
    """Draw the calls of one organization's day; `through_year` goes from 0 to 1."""
    random = Random(f"{seed} {organization.slug} {start_us}")
    for _ in range(_calls(organization, start_us, through_year, random)):
        workload = random.choices(organization.workloads, [one.share for one in organization.workloads])[0]
        yield _call(organization, workload, start_us + _moment_of_day(random), random)


def _calls(organization: DemoOrganization, start_us: int, through_year: float, random: Random) -> int:
    """Count a day's calls: growing over the year, a quarter of them at weekends, with some noise."""
    weekday = (start_us // _DAY_US + 3) % 7  # 1970 began on a Thursday
    grown = organization.calls_a_day / organization.growth ** (1 - through_year)
    return int(grown * (0.25 if weekday >= 5 else 1.0) * random.uniform(0.8, 1.2))


def _moment_of_day(random: Random) -> int:
    """Draw a time of day, most of them around the middle of a working day in UTC."""
    hour = min(max(random.gauss(13, 3.5), 0), 23.99) if random.random() < 0.85 else random.uniform(0, 23.99)
    return int(hour * 3_600_000_000)


def _call(organization: DemoOrganization, workload: Workload, at_us: int, random: Random) -> UsageEvent:
    status, error = _outcome(random)
    user = f"user-{int(random.paretovariate(1.2)) % organization.users + 1}"
    duration_us = int(random.lognormvariate(0.3, 0.6) * 1_000_000)
    return UsageEvent(
        org_id=org_id_of(organization.slug),
        trace_id=random.randbytes(16),
        span_id=random.randbytes(8),
        occurred_at_us=at_us,
        started_at_us=at_us - duration_us,
        received_at_us=at_us + 2_000_000,
        kind="call",
        dialect=DIALECT,
        usage=Usage() if status == "error" else _usage(workload, at_us, random),
        provider=workload.provider,
        request_model=workload.model,
        operation="chat" if workload.output_tokens else "embeddings",
        status=status,
        error_code=error,
        stream=bool(workload.output_tokens) and random.random() < 0.4,
        batch=workload.batch,
        project=random.choice(organization.projects),
        user=user,
        user_email=f"{user}@{organization.slug}.{_EMAIL_DOMAIN}",
        service=workload.service,
        category=workload.category,
        tags=["demo"],
    )


def _outcome(random: Random) -> tuple[CallStatus, str | None]:
    drawn = random.random()
    if drawn < 0.012:
        return "error", random.choice(("RateLimitError", "APITimeoutError", "InternalServerError"))
    return ("cancelled", None) if drawn < 0.016 else ("ok", None)


def _usage(workload: Workload, at_us: int, random: Random) -> Usage:
    """Draw the counts; answers get somewhat longer and shorter over the weeks, as prompts are changed."""
    drift = 1 + 0.15 * sin(at_us / _DAY_US / 45 * tau)
    asked = _around(workload.input_tokens * drift, random)
    if not workload.output_tokens:
        return Usage(input_tokens=asked)
    cached = int(asked * workload.cached * random.uniform(0.6, 1.0)) if random.random() < 0.8 else 0
    return Usage(
        input_tokens=asked,
        cache_read_input_tokens=cached if workload.cached else None,
        output_tokens=_around(workload.output_tokens * drift, random),
    )


def _around(typical: float, random: Random) -> int:
    return max(1, int(min(max(typical * random.lognormvariate(0, 0.4), typical / 3), typical * 3)))


def slugs() -> Sequence[str]:
    """Name the organizations of the demonstration."""
    return [organization.slug for organization in ORGANIZATIONS]
