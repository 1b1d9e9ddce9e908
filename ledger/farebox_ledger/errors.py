"""What can go wrong in the ledger, by who has to act.

LedgerError
├── InvalidInput          the caller sent something that cannot be booked or asked; names the field
│   └── AmountTooLarge    an amount beyond what a row can hold exactly
├── NotFound              the named thing does not exist in the caller's scope
├── Conflict              the change contradicts what stands; names what it contradicts
├── Outdated              the change was made for a version that is no longer current
├── LeaseLost             a job belongs to another process by now; what this one was about to commit must not be
├── CatalogUnusable       a price catalog cannot be fetched or read; nothing was changed by it
└── DatabaseNotReady      the database cannot be used as it is; the message names the command that cures it
"""

from __future__ import annotations

from typing import Final

_WHERE_TO_LOOK: Final = {
    "organization": "`farebox orgs list` shows which do",
    "key": "`farebox keys list` shows which do",
    "credit account": "`farebox credits open` opens it",
    "quarantined span": "`farebox quarantine list` shows which do",
}
"""What helps whoever named a thing that is not there, by the kind of thing."""


class LedgerError(Exception):
    """Any fault that the ledger reports on purpose."""


class InvalidInput(LedgerError):
    """The caller sent something that cannot be booked or asked."""

    def __init__(self, field: str, detail: str) -> None:
        """Name the field (a dotted path, such as `usage.input_tokens`) and say what was expected and what came."""
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail


class AmountTooLarge(InvalidInput):
    """An amount is beyond 9,000,000 units of its currency, more than one row holds exactly."""


class NotFound(LedgerError):
    """The named thing does not exist, or not in the caller's scope."""

    def __init__(self, kind: str, name: str) -> None:
        """Name the kind of thing (`organization`, `price`) and the name that was looked for."""
        cure = _WHERE_TO_LOOK.get(kind)
        super().__init__(f"{kind} {name!r} does not exist" + (f"; {cure}" if cure else ""))
        self.kind = kind
        self.name = name


class Conflict(LedgerError):
    """The change contradicts what already stands."""

    def __init__(self, detail: str, *, conflicting_id: str | None = None) -> None:
        """Say what contradicts what; `conflicting_id` names the thing that stands in the way, when there is one."""
        super().__init__(detail)
        self.conflicting_id = conflicting_id


class Outdated(LedgerError):
    """The caller wants to change a version of a thing that somebody else has changed since."""

    def __init__(self, kind: str, name: str, *, expected: int, current: int) -> None:
        """Name the thing, the version that the caller has, and the one that stands."""
        super().__init__(
            f"{kind} {name!r} is at version {current}, not {expected}: read it again and repeat the change on that"
        )
        self.current = current


class LeaseLost(LedgerError):
    """A job is no longer this process's to run: its lease ended and another process has it, or it has ended."""

    def __init__(self, job_id: str) -> None:
        """Name the job."""
        super().__init__(f"job {job_id} is no longer held by this process")
        self.job_id = job_id


class CatalogUnusable(LedgerError):
    """A price catalog cannot be fetched or read; the message says why, and nothing was changed."""


class DatabaseNotReady(LedgerError):
    """The database is missing, empty, older or newer than this version of farebox."""
