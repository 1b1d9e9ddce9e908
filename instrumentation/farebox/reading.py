"""What an SDK file says about a call: the `Request` that it saw, and the `Reading` that it takes of the answer.

Comes in: objects of the SDKs. Goes out: span attributes by the names of `farebox.spans`. It holds counts and names
only, never a prompt or a completion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias

AttributeValue: TypeAlias = str | bool | int | float | list[str]
Attributes: TypeAlias = dict[str, AttributeValue]
Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]

REFUSALS = (400, 422)
#: The largest whole number that a span can carry.
COUNT_MAX = 2**63 - 1
#: Digits of a count that is written as text.
DIGITS_MAX = 19


class Request:
    """One call as it leaves the app; made by `read_request`.

    `attributes` are facts known before the answer. `arguments` replaces those of the app (None: they stay). After an
    exception, `retry` may name other arguments with which the call is made once more (None: the exception stands);
    `retried` is told when that succeeds. `is_hidden` tells which chunks of a stream the app did not ask for. `seen`
    collects answers that the SDK got but may fail to hand over, such as one that its parser refuses after it was
    billed. `is_counted_once` marks a look at an answer that an earlier call may have brought about, and booked.
    `is_delivery` marks a call that only hands over what was made elsewhere, such as the results of a batch: it is no
    use of a model itself, and each thing that it brings stands in `Reading.items`. `is_around` marks a call that may be
    made through another metered method, whose span then stands for both. `notes` are the SDK file's own where they are
    to outlive the call; None gives each call notes of its own.
    `is_lazy` marks a stream whose request is sent when its first chunk is asked for, and not at all when none is.
    `stream_in` names the attribute of the answer (the member, where the answer is a dict) that holds the stream or the
    unread body, where it is not the answer itself. `units` are what the request alone tells of the use, billed when the
    call succeeds. `body` is what is sent, for an estimate; it is let go before the call is made.
    """

    __slots__ = (
        "arguments", "attributes", "body", "is_around", "is_counted_once", "is_delivery", "is_hidden", "is_lazy",
        "is_stream", "model", "notes", "operation", "provider", "retried", "retry", "seen", "stream_in", "units",
    )  # fmt: skip

    def __init__(self, operation: str, provider: str, model: str | None, *, is_stream: bool = False) -> None:
        self.operation = operation
        self.provider = provider
        self.model = model
        self.is_stream = is_stream
        self.attributes: Attributes = {}
        self.arguments: Arguments | None = None
        self.retry: Callable[[Exception], Arguments | None] | None = None
        self.retried: Callable[[], None] | None = None
        self.is_hidden: Callable[[Any], bool] | None = None
        self.seen: list[Any] = []
        self.body: Mapping[str, Any] | None = None
        self.is_counted_once = False
        self.is_delivery = False
        self.is_around = False
        self.notes: dict[str, Any] | None = None
        self.is_lazy = False
        self.stream_in: str | None = None
        self.units: Attributes = {}


class Reading:
    """What is known of the answer so far.

    `attributes` hold what goes onto the span. `notes` are the SDK file's own, kept between the chunks of a stream.
    `children` are answers of further models inside this one, each the attributes of a span of its own; `items` are the
    answers that a delivery has brought since they were last booked, each a span beside the others. `is_discarded`
    means that the call is no use of a model (a status poll, or an answer already counted). `ending` is the outcome that
    a stream states itself, for SDKs that stop reading there.
    """

    __slots__ = ("attributes", "children", "ending", "is_discarded", "items", "notes", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.attributes: Attributes = {}
        self.notes: dict[str, Any] = {} if request.notes is None else request.notes
        self.children: list[Attributes] = []
        self.ending: str | None = None
        self.items: list[Attributes] = []
        self.is_discarded = request.is_counted_once or request.is_delivery

    def put(self, name: str, value: object) -> None:
        """Keep a name; None says nothing and is skipped."""
        if value is not None and isinstance(value, (str, int, float)):
            self.attributes[name] = value

    def put_count(self, name: str, value: object) -> None:
        """Keep a count; what is no number says nothing and is skipped, 0 is kept."""
        if (number := count(value)) is not None:
            self.attributes[name] = number


def count(value: object) -> int | float | None:
    """A count as a number, None for what is none; some hosts write theirs as text.

    What no span can carry, or what would spoil each sum that it goes into, is no number. A negative one stays, and is
    refused by the collector, which says so.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) <= DIGITS_MAX else None
    elif value is not None and not isinstance(value, (int, float)):
        value = _number(value)
    return value if value is not None and -COUNT_MAX <= value <= COUNT_MAX else None


def _number(value: object) -> int | float | None:
    """The number that an object of another library stands for, such as one of numpy, or a decimal."""
    if isinstance(value, SupportsIndex):
        return value.__index__()
    return float(value) if isinstance(value, SupportsFloat) else None


def listed(value: object) -> Sequence[Any]:
    """The things in a list; none where there is no list."""
    return value if isinstance(value, (list, tuple)) else ()


def fields(part: object) -> Mapping[str, Any]:
    """The fields of a part of an answer, undeclared ones included; empty for None.

    Takes decoded JSON and the model objects of the SDKs (pydantic 1 and 2, plain classes) alike.
    """
    if part is None:
        return {}
    if isinstance(part, dict):
        return part
    known: dict[str, Any] = getattr(part, "__dict__", {})
    extra = getattr(part, "__pydantic_extra__", None)
    return {**known, **extra} if extra else known


def field(part: object, name: str) -> Any:
    """One field of a part of an answer, None where it is not there: what `fields` would say, in half the time."""
    return part.get(name) if isinstance(part, dict) else getattr(part, name, None)


def is_refusal(error: Exception) -> bool:
    """Whether a provider did not understand a request, or did not want it so; nothing is billed for that."""
    answer = getattr(error, "response", None)
    return (getattr(error, "status_code", None) or getattr(answer, "status_code", None)) in REFUSALS
