"""Price syncs, as answers and as bodies."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from farebox_api.bodies import Input
from farebox_api.schemas.pages import Page
from farebox_api.schemas.values import Count, Timestamp, optional_timestamp, timestamp
from farebox_ledger.catalog import Refused
from farebox_ledger.catalog.difference import Diff, Listed, Moved
from farebox_ledger.store.price_syncs import PriceSync
from farebox_ledger.store.price_tables import SyncStatus

Figures: TypeAlias = Annotated[
    dict[str, str], Meta(description="Prices of a single unit by place, such as `batch.input_tokens`.")
]


class ListedAnswer(msgspec.Struct, frozen=True):
    """A price that is added or removed."""

    provider: str
    model: str
    prices: Figures


class FigureAnswer(msgspec.Struct, frozen=True):
    """One figure that moves; null where there is none."""

    before: str | None
    after: str | None


class MovedAnswer(msgspec.Struct, frozen=True):
    """A price that changes, by the figures that move."""

    provider: str
    model: str
    prices: dict[str, FigureAnswer]


class RefusedAnswer(msgspec.Struct, frozen=True):
    """An entry of the file that is no price, and why; a price that it had stays as it was."""

    key: str
    reason: str


class DiffAnswer(msgspec.Struct, frozen=True):
    """What a sync changes, or would."""

    added: list[ListedAnswer]
    changed: list[MovedAnswer]
    removed: list[ListedAnswer]
    refused: list[RefusedAnswer]


class SyncAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One sync. `detail` says why it failed, or why it waits for approval. `url` is where the file came from."""

    id: str
    source: Literal["litellm"]
    url: str
    status: SyncStatus
    requested_at: Timestamp
    finished_at: Timestamp | None
    approved_at: Timestamp | None
    detail: str | None
    etag: str | None
    sha256: str | None
    size_bytes: Count | None
    added: Count
    changed: Count
    removed: Count
    refused: Count


class SyncWithDiffAnswer(SyncAnswer, frozen=True, kw_only=True):
    """One sync and what it changes; `diff` is null where nothing was compared."""

    diff: DiffAnswer | None


class SyncPageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list, without the diffs."""

    items: list[SyncAnswer]


class SyncInput(Input, frozen=True):
    """A sync to be started. `litellm` is the one source that is synced."""

    source: str = "litellm"


def sync_answer(sync: PriceSync) -> SyncAnswer:
    """Write a sync without its diff."""
    return SyncAnswer(
        id=sync.id,
        source=sync.source,
        url=sync.origin,
        status=sync.status,
        requested_at=timestamp(sync.requested_at_us),
        finished_at=optional_timestamp(sync.finished_at_us),
        approved_at=optional_timestamp(sync.approved_at_us),
        detail=sync.detail,
        etag=sync.etag,
        sha256=sync.sha256,
        size_bytes=sync.size_bytes,
        added=sync.added,
        changed=sync.changed,
        removed=sync.removed,
        refused=sync.refused,
    )


def sync_with_diff_answer(sync: PriceSync) -> SyncWithDiffAnswer:
    """Write a sync with its diff."""
    diff = None if sync.diff is None else _diff(sync.diff)
    return SyncWithDiffAnswer(**msgspec.structs.asdict(sync_answer(sync)), diff=diff)


def _diff(diff: Diff) -> DiffAnswer:
    return DiffAnswer(
        added=[_listed(one) for one in diff.added],
        changed=[_moved(one) for one in diff.changed],
        removed=[_listed(one) for one in diff.removed],
        refused=[_refused(one) for one in diff.refused],
    )


def _listed(listed: Listed) -> ListedAnswer:
    return ListedAnswer(listed.provider, listed.model, listed.figures)


def _moved(moved: Moved) -> MovedAnswer:
    return MovedAnswer(
        moved.provider, moved.model, {place: FigureAnswer(*ends) for place, ends in moved.figures.items()}
    )


def _refused(refused: Refused) -> RefusedAnswer:
    return RefusedAnswer(refused.key, refused.reason)
