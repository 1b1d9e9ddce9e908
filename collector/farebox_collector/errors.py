"""What can go wrong in the collector, by who has to act.

CollectorError
├── InvalidSetting            the operator set a variable to something that cannot work; names it
├── SpoolInUse                another collector owns the spool folder or the database file
├── NotDelivered              what `farebox forward` sent was not taken by the gateway
│   ├── GatewayAway           nothing is wrong with what was sent, try again; says when, if the gateway did
│   ├── KeyRefused            the gateway does not take spans of this sender's key
│   └── SpansRefused          the gateway cannot read these spans, or they are too many at once
└── Refused                   a request is not taken; carries the answer for both transports
    ├── Unauthenticated       no key, or none that is known and valid            401  never retried by exporters
    ├── PermissionDenied      a known key that may not send                      403  never retried
    ├── Malformed             bytes that are no OTLP                             400  never retried
    ├── LengthRequired        a body that may be there and would not be read         411  never retried
    ├── TooLarge              beyond the size limit, raw or decompressed         413  never retried
    ├── UnsupportedMedia      another content type or compression                415  never retried
    ├── TooSlow               the body did not arrive in time                    408  never retried
    └── Unavailable           nothing is wrong with the request, try again       503  retried with the hint
        ├── SpoolFull         the spool has reached its size limit
        └── SpoolBroken       the spool cannot be written (disk full, gone, read-only)
"""

from __future__ import annotations

from typing import ClassVar


class CollectorError(Exception):
    """Any fault that the collector reports on purpose."""


class InvalidSetting(CollectorError):
    """A variable holds something that cannot work."""

    def __init__(self, variable: str, detail: str) -> None:
        """Name the variable and say in one line what was expected and what came."""
        super().__init__(f"{variable}: {detail}")
        self.variable = variable


class SpoolInUse(CollectorError):
    """Another running collector owns this spool folder or this database file."""


class NotDelivered(CollectorError):
    """The gateway did not take what was sent to it."""


class GatewayAway(NotDelivered):
    """Nothing is wrong with what was sent; `retry_after_s` is what the gateway asked for, None without a wish."""

    def __init__(self, detail: str, retry_after_s: float | None = None) -> None:
        """Say in one line what failed; never what was sent."""
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class KeyRefused(NotDelivered):
    """The gateway does not take spans of this sender's key; `http_status` is 401 or 403."""

    def __init__(self, http_status: int) -> None:
        """Name the answer."""
        super().__init__(f"the gateway refuses the key ({http_status})")
        self.http_status = http_status


class SpansRefused(NotDelivered):
    """The gateway cannot read these spans, or they are too many at once."""


class Refused(CollectorError):
    """A request is not taken. The numbers are those of HTTP and of gRPC (`google.rpc.Code`)."""

    http_status: ClassVar[int]
    grpc_code: ClassVar[int]
    is_retryable: ClassVar[bool] = False


class Unauthenticated(Refused):
    """The request carries no key, or none that is known and valid."""

    http_status = 401
    grpc_code = 16


class PermissionDenied(Refused):
    """The key is known and may not send spans."""

    http_status = 403
    grpc_code = 7


class Malformed(Refused):
    """The body is no OTLP request in the stated encoding."""

    http_status = 400
    grpc_code = 3


class LengthRequired(Refused):
    """The request does not say whether it has a body; taking it for empty would lose what it has."""

    http_status = 411
    grpc_code = 3


class TooLarge(Refused):
    """The body is beyond the size limit, as it came or decompressed."""

    http_status = 413
    grpc_code = 8


class UnsupportedMedia(Refused):
    """The content type or the compression is not one that OTLP receivers read."""

    http_status = 415
    grpc_code = 12


class TooSlow(Refused):
    """The body did not arrive in time."""

    http_status = 408
    grpc_code = 4


class Unavailable(Refused):
    """Nothing is wrong with the request; the sender shall try again."""

    http_status = 503
    grpc_code = 14
    is_retryable = True


class SpoolFull(Unavailable):
    """The spool has reached FAREBOX_SPOOL_MAX_BYTES."""


class SpoolBroken(Unavailable):
    """The spool cannot be written."""
