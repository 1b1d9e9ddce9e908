"""Who pays, across services: what `farebox.attribute` says here travels to the services that are called from here.

Comes in: the W3C baggage of the current context, which the app's own propagator has filled from a request, and the
names of `attribute` blocks. Goes out: span attributes, and a context whose baggage the app's own propagator writes into
its requests. Nothing travels in either direction but the names that FAREBOX_BAGGAGE lists. No propagator is installed
or changed here, and the organization is never among the names: the sender's key alone decides it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from opentelemetry import baggage, context
from opentelemetry.context import Context

from farebox import safety
from farebox.reading import Attributes

#: What the collector keeps of a name; W3C baggage allows 4096 bytes a member and 8192 in all.
VALUE_MAX_CHARACTERS = 256

#: (what was put into place, what stood there before)
Attached: TypeAlias = tuple[Context, Context]


class Carrier:
    """Reads and writes the baggage members of some names; a member is called as its span attribute is."""

    __slots__ = ("_members",)

    def __init__(self, names: Iterable[str], known: Mapping[str, str]) -> None:
        """Take the names that may travel; `known` maps names to span attributes, others are left out and named."""
        self._members = frozenset(known[name] for name in names if name in known)
        for name in sorted(set(names) - known.keys()):
            safety.say_once(
                f"config.FAREBOX_BAGGAGE.{name}",
                f"FAREBOX_BAGGAGE names {name!r}, which cannot travel; there are: {', '.join(known)}.",
            )

    def read(self) -> Attributes:
        """What the caller says of who pays. It came over the network: whatever is no short text is left out."""
        try:
            members = baggage.get_all()
            if not members:
                return {}
            return {
                name: value
                for name in self._members
                if isinstance(value := members.get(name), str) and _is_carried(value)
            }
        except Exception:  # noqa: BLE001 - the app's call goes on, without what the caller said
            safety.report("baggage.read")
            return {}

    def attach(self, named: Attributes) -> Attached | None:
        """Put the names of a block into the current context's baggage; None where it has none that travels."""
        try:
            before = changed = context.get_current()
            for name in self._members & named.keys():
                value = str(named[name])
                if _is_carried(value):
                    changed = baggage.set_baggage(name, value, changed)
                else:
                    # The caller's value, of an outer block, must not stand for this one.
                    changed = baggage.remove_baggage(name, changed)
                    safety.say_once(
                        f"baggage.{name}", f"{name} is no printable text of at most 256 characters and does not travel."
                    )
            if changed is before:
                return None
            context.attach(changed)
        except Exception:  # noqa: BLE001 - the app's block runs whatever happens here
            safety.report("baggage.attach")
            return None
        return changed, before


def detach(attached: Attached | None) -> None:
    """Undo an `attach` where it is still in force.

    OpenTelemetry's own `detach` takes a token, which holds only in the very context that gave it, and logs an error in
    any other, such as a generator that is closed by another task.
    """
    if attached is None:
        return
    changed, before = attached
    try:
        if context.get_current() is changed:
            context.attach(before)
    except Exception:  # noqa: BLE001 - the app's block ends whatever happens here
        safety.report("baggage.detach")


def _is_carried(value: str) -> bool:
    return 0 < len(value) <= VALUE_MAX_CHARACTERS and value.isprintable()
