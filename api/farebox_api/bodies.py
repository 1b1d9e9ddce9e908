"""What stands in a body, strictly read: no coercion, no unknown members, every fault with its JSON pointer.

Bodies are read from their bytes: what the framework parses has lost the digits of decimals, and it would take "1" for a
number and "yes" for true, which a bill must not rest on.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import msgspec
from litestar import Request

from farebox_api.errors import Fault, InvalidRequest

Shape = TypeVar("Shape")

_PLACE: Final = re.compile(r"^(?P<detail>.*?)(?: - at (?:`key` in )?`\$(?P<path>[^`]*)`)?$", re.DOTALL)
_MEMBER: Final = re.compile(r"(?:unknown|required) field `([^`]+)`")


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of every body's shape: unknown members are refused."""


class RawRequest(Request[Any, Any, Any]):
    """A request whose body the framework does not parse: `read` does, and says where what is wrong.

    Routes name the shape of their body in `data`, for the document alone.
    """

    async def json(self) -> Any:
        """Answer nothing of the body; a number beyond any float would be refused here without saying which."""
        return {}


def read(body: bytes, shape: type[Shape]) -> Shape:
    """Read a JSON body as `shape`.

    Raises:
        InvalidRequest: it is no JSON, or has another shape; the fault points to the first place.
    """
    try:
        return msgspec.json.decode(body, type=shape, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_fault(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(Fault(f"expected JSON: {error}", pointer="")) from None
    except RecursionError:
        raise InvalidRequest(Fault("is nested too deeply", pointer="")) from None


def _fault(message: str) -> Fault:
    place = _PLACE.match(message)
    assert place is not None
    detail, path = place["detail"], place["path"] or ""
    member = _MEMBER.search(detail)
    pointer = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", path).replace("/", "~1").replace(".", "/")
    return Fault(detail, pointer=f"{pointer}/{member[1]}" if member else pointer)
