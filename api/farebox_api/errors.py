"""What can go wrong between a request and the ledger, by who has to act.

ApiError
├── CannotStart         a setting, or something that already runs, is in the way of the start
│   └── ConfigError     … a setting; the message is one line that names the variable
├── InvalidRequest      400: the request says something that cannot be understood; names every place
├── Unauthenticated     401: no key, or one that opens nothing
├── Forbidden           403: the key is good, and not for this
│   └── MissingScope    … because it lacks a scope
├── TooManyRequests     429: the key has used up its minute
├── MissingExtra        501: this installation lacks an optional part; names it
└── NotReady            503: the service cannot answer now; says what it waits for
    └── Busy            … because it does as much of this as it may at a time

What the ledger refuses (`farebox_ledger.errors`) passes through as it is; `problems` turns both into answers.
"""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """One thing wrong with a request: a parameter's name, or a JSON pointer into the body, and what to do about it."""

    detail: str
    parameter: str | None = None
    pointer: str | None = None


class ApiError(Exception):
    """Any fault that the API reports on purpose."""


class CannotStart(ApiError):
    """A setting, or something that already runs, is in the way of the start; the message says which, in one line."""


class ConfigError(CannotStart):
    """A setting has a value that cannot be used."""

    def __init__(self, variable: str, detail: str) -> None:
        """Name the environment variable and say what was expected and what came."""
        super().__init__(f"{variable}: {detail}")
        self.variable = variable


class InvalidRequest(ApiError):
    """The request says something that cannot be understood."""

    def __init__(self, *faults: Fault) -> None:
        """Take every fault that was found, at least one, so that the caller can cure them all at once."""
        assert faults
        super().__init__("; ".join(fault.detail for fault in faults))
        self.faults = faults


class Unauthenticated(ApiError):
    """The request carries no key, or one that opens nothing."""


class Forbidden(ApiError):
    """The key is good, and not for this."""


class MissingScope(Forbidden):
    """The key is good, and lacks the scope for this."""

    def __init__(self, scope: str) -> None:
        """Name the scope that would open the door."""
        super().__init__(f"This needs a key with the scope {scope}.")
        self.scope = scope


class TooManyRequests(ApiError):
    """The key has used up its minute."""

    def __init__(self, limit: int, reset_s: int) -> None:
        """Say how many requests a minute the key has, and in how many seconds the next one begins."""
        super().__init__(f"This key may send {limit} requests a minute; try again in {reset_s} seconds.")
        self.reset_s = reset_s


class NotReady(ApiError):
    """The service cannot answer now."""

    retry_after_s = 1


class Busy(NotReady):
    """The service does as much of this as it may at a time."""

    retry_after_s = 10


class MissingExtra(ApiError):
    """This installation lacks an optional part."""

    def __init__(self, extra: str) -> None:
        """Name the extra that brings it."""
        super().__init__(f'This installation cannot do that: pip install "farebox[{extra}]" where it runs.')


def invalid_parameter(name: str, detail: str) -> InvalidRequest:
    """Make the error of one parameter; `detail` says what was expected and what came."""
    return InvalidRequest(Fault(detail, parameter=name))
