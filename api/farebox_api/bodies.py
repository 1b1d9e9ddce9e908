"""What stands in a body, strictly read: no coercion, no unknown members, every fault with its JSON pointer.

The framework has parsed the JSON; it would also read "1" as a number and "yes" as true, which a bill must not rest on.
"""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec

from farebox_api.errors import Fault, InvalidRequest

Shape = TypeVar("Shape")

_PLACE: Final = re.compile(r"^(?P<detail>.*?)(?: - at `(?P<key>key in )?\$(?P<path>[^`]*)`)?$", re.DOTALL)
_MEMBER: Final = re.compile(r"(?:unknown|required) field `([^`]+)`")


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of every body's shape: unknown members are refused."""


def read(data: object, shape: type[Shape]) -> Shape:
    """Read parsed JSON as `shape`.

    Raises:
        InvalidRequest: it has another shape; the fault points to the first place.
    """
    try:
        return msgspec.convert(data, shape, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_fault(str(error))) from None


def _fault(message: str) -> Fault:
    place = _PLACE.match(message)
    assert place is not None
    detail, path = place["detail"], place["path"] or ""
    member = _MEMBER.search(detail)
    pointer = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", path).replace("/", "~1").replace(".", "/")
    return Fault(detail, pointer=f"{pointer}/{member[1]}" if member else pointer)
