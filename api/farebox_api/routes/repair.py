"""Repair: what waits for a price, what shall become of it, and jobs that price rows anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeAlias

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter, RawBody, SkipValidation
from sqlalchemy import Connection

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.bodies import read
from farebox_api.catalog import Catalog
from farebox_api.paging import CursorCodec
from farebox_api.problems import problem_responses
from farebox_api.routes.administration import slugs
from farebox_api.routes.queries import Cursor, Limit, OrganizationName, named
from farebox_api.schemas.model_aliases import alias_answer
from farebox_api.schemas.price_overrides import override_answer
from farebox_api.schemas.repair import (
    RepriceInput,
    RepriceJobAnswer,
    ResolveAnswer,
    ResolveBody,
    ResolveInput,
    UnpricedPageAnswer,
    UnsettledStatus,
    group_answer,
    job_answer,
    outcome_answer,
)
from farebox_ledger.pricing.estimates import AverageRates, Estimate
from farebox_ledger.repair import CURABLE, Repair, Trial, book_with, repair, rows_of, tried
from farebox_ledger.repricing import KIND, RepriceOutcome, arguments_of, enqueue_reprice, outcome_of, preview
from farebox_ledger.store.jobs import Job, get_job
from farebox_ledger.store.organizations import organizations_by_id
from farebox_ledger.store.unpriced import UnpricedGroup, first_seen_us, ignore_group, restore_group, unpriced_groups
from farebox_ledger.usage import Reason

Shown: TypeAlias = Literal["hide", "show"]
Estimating: TypeAlias = Literal["none", "average"]

CURSORS = CursorCodec(tuple[int, str, str, str])


@get(
    "/unpriced",
    operation_id="list_unpriced",
    summary="What waits for a price",
    tags=["repair"],
    guards=[requires("usage:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def listed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    catalog: NamedDependency[SkipValidation[Catalog]],
    organization: OrganizationName = None,
    provider: Annotated[str | None, named("Provider, as the rows name it.")] = None,
    reason: Annotated[Reason | None, QueryParameter(description="Why the rows have no price.")] = None,
    billing_status: Annotated[
        UnsettledStatus, QueryParameter(description="Rows without a price, or with one that is second best.")
    ] = "unpriced",
    ignored: Annotated[Shown, QueryParameter(description="What to do with groups that were set aside.")] = "hide",
    estimate: Annotated[
        Estimating, QueryParameter(description="Guess what groups might have cost, by average rates.")
    ] = "none",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> UnpricedPageAnswer:
    """Group rows by provider, model and reason, the largest group first, with names of the catalog that look alike."""
    question = ("unpriced", books.caller.org_slug, organization, provider, reason, billing_status, ignored)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading(organization) as (connection, scope):
        found = unpriced_groups(
            connection,
            scope,
            billing_status=billing_status,
            provider=provider,
            reason=reason,
            with_ignored=ignored == "show",
            limit=limit + 1,
            after=after,
        )
    groups, has_more = found[:limit], len(found) > limit
    suggestions = catalog.suggestions()
    averages = catalog.average_rates() if estimate == "average" and billing_status == "unpriced" else None
    return UnpricedPageAnswer(
        items=[
            group_answer(
                group,
                billing_status,
                suggestions.nearest(group.name.provider, group.name.model),
                None if averages is None else _estimated(averages, group),
            )
            for group in groups
        ],
        next_cursor=CURSORS.write(groups[-1].position, *question) if has_more else None,
        has_more=has_more,
    )


def _estimated(averages: AverageRates, group: UnpricedGroup) -> Estimate | None:
    """Guess what a group might have cost; what was reported wrongly or not at all is worth no guess."""
    if group.name.reason not in CURABLE:
        return None
    return averages.estimate(group.name.provider, group.input_tokens, group.output_tokens)


@post(
    "/unpriced/resolve",
    operation_id="resolve_unpriced",
    summary="Say what shall become of a group",
    tags=["repair"],
    guards=[requires("prices:write")],
    status_code=200,
    responses=problem_responses(400, 401, 403, 404, 409),
    sync_to_thread=True,
)
def resolved(
    books: NamedDependency[SkipValidation[Books]], data: SkipValidation[ResolveInput], body: RawBody
) -> ResolveAnswer:
    """Give a group a price, an alias, or its calls for free, and price its rows anew; or take it off the list."""
    wanted = read(body, ResolveBody)
    if wanted.action in ("ignore", "restore"):
        return _set_aside(books, wanted)
    if wanted.dry_run:
        return _tried(books, wanted)
    with books.writing(wanted.organization) as (connection, scope):
        draft = wanted.draft(first_seen_us(connection, scope, wanted.group()))
        made = repair(connection, scope, wanted.group(), draft)
        return ResolveAnswer(
            action=wanted.action, dry_run=False, job=_job(connection, made.job), **_what(connection, made)
        )


@post(
    "/reprice-jobs",
    operation_id="create_reprice_job",
    summary="Price rows anew",
    tags=["repair"],
    guards=[requires("prices:write")],
    status_code=202,
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def ordered(
    books: NamedDependency[SkipValidation[Books]], data: SkipValidation[RepriceInput], body: RawBody
) -> RepriceJobAnswer:
    """Order a job that prices rows by today's catalog for the time of their calls; a second one changes nothing."""
    wanted = read(body, RepriceInput)
    with books.writing(wanted.organization) as (connection, scope):
        return _job(connection, enqueue_reprice(connection, scope, wanted.rows(), dry_run=wanted.dry_run))


@get(
    "/reprice-jobs/{job_id:str}",
    operation_id="get_reprice_job",
    summary="One re-pricing",
    tags=["repair"],
    guards=[requires("prices:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(
    books: NamedDependency[SkipValidation[Books]],
    job_id: Annotated[str, PathParameter(description="The job's id.", max_length=64)],
) -> RepriceJobAnswer:
    """Show how far a job is and what it has changed, or would."""
    with books.reading() as (connection, scope):
        return _job(connection, get_job(connection, scope, job_id, kind=KIND))


def _set_aside(books: Books, wanted: ResolveBody) -> ResolveAnswer:
    if not wanted.dry_run:
        with books.writing(wanted.organization) as (connection, scope):
            change = ignore_group if wanted.action == "ignore" else restore_group
            change(connection, scope, wanted.group())
    return ResolveAnswer(action=wanted.action, dry_run=wanted.dry_run)


def _tried(books: Books, wanted: ResolveBody) -> ResolveAnswer:
    """Make it and take it back, in a short write; what it would change is computed while nobody waits."""
    name = wanted.group()
    with books.writing(wanted.organization) as (connection, scope):
        trial = tried(connection, scope, name, wanted.draft(first_seen_us(connection, scope, name)))
        what = _what(connection, trial)
    with books.reading(wanted.organization) as (connection, scope):
        outcome = preview(connection, scope, rows_of(name), book_with(connection, trial))
        answer = outcome_answer(outcome, _slugs_of(connection, outcome))
    return ResolveAnswer(action=wanted.action, dry_run=True, preview=answer, **what)


def _what(connection: Connection, made: Repair | Trial) -> dict[str, Any]:
    subject = made.override or made.alias
    assert subject is not None, "a repair makes one of the two"
    owner = slugs(connection, [subject])[subject.org_id]
    return {
        "override": None if made.override is None else override_answer(made.override, owner),
        "alias": None if made.alias is None else alias_answer(made.alias, owner),
    }


def _job(connection: Connection, job: Job) -> RepriceJobAnswer:
    arguments, outcome = arguments_of(job), outcome_of(job)
    owners = set() if job.org_id is None else {job.org_id}
    known = _slugs(connection, owners | _owners(outcome))
    return job_answer(job, arguments.rows, dry_run=arguments.dry_run, slugs=known)


def _slugs_of(connection: Connection, outcome: RepriceOutcome) -> dict[int, str]:
    return _slugs(connection, _owners(outcome))


def _owners(outcome: RepriceOutcome | None) -> set[int]:
    return set() if outcome is None else {one.org_id for one in outcome.examples}


def _slugs(connection: Connection, org_ids: Iterable[int]) -> dict[int, str]:
    return {org_id: one.slug for org_id, one in organizations_by_id(connection, set(org_ids)).items()}


ROUTES: tuple[Any, ...] = (listed, resolved, ordered, shown)
