"""The SDKs that are metered: one file each, loaded when its SDK gets imported.

A file consists of TARGETS (what to wrap), `read_request`, `read_response` and `read_chunk`. No file imports its SDK,
or another file.
"""

from farebox import SDKS as SDKS

TYPE_CHECKING = False  # importing `typing` would cost every interpreter that has the hook
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from farebox.reading import Reading, Request

    class Sdk(Protocol):
        """The shape of an SDK file.

        `TESTED` is the range of versions that the tests have run against, oldest and newest. `read_request` gets the
        object that the method is called on and its arguments, and answers None for a call that uses no model.
        `read_response` takes the answer, or its decoded JSON; `read_chunk` takes one chunk of a stream.
        """

        TESTED: tuple[str, str]
        TARGETS: "Sequence[Target]"

        def read_request(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None: ...

        def read_response(self, response: Any, reading: Reading) -> None: ...

        def read_chunk(self, chunk: Any, reading: Reading) -> None: ...


class Target:
    """A callable to wrap: `attribute` is its dotted path inside `module`. Sync or async is seen from the callable.

    `operation` and `is_stream` say what the method alone tells of its calls; None leaves it to `read_request`.
    `is_newer` marks what the oldest supported versions of the SDK do not have, which is no fault.
    """

    __slots__ = ("attribute", "is_newer", "is_stream", "module", "operation")

    def __init__(
        self,
        module: str,
        attribute: str,
        operation: str | None = None,
        *,
        is_stream: bool = False,
        is_newer: bool = False,
    ) -> None:
        self.module = module
        self.attribute = attribute
        self.operation = operation
        self.is_stream = is_stream
        self.is_newer = is_newer
