"""Meter the LLM calls of this process.

Comes in: calls of LLM SDKs, and what the app says about who makes them. Goes out: OpenTelemetry spans to a collector.
Importing this package imports nothing else: each name below is loaded when it is first asked for.
"""

TYPE_CHECKING = False  # the one of `typing` would import `typing` into every interpreter that has the hook
if TYPE_CHECKING:
    from farebox._version import __version__ as __version__
    from farebox.attribution import attribute as attribute
    from farebox.attribution import suppress as suppress
    from farebox.manual import record_usage as record_usage
    from farebox.manual import track as track
    from farebox.startup import instrument as instrument
    from farebox.startup import uninstrument as uninstrument

__all__ = ["__version__", "attribute", "instrument", "record_usage", "suppress", "track", "uninstrument"]

_HOMES = {
    "__version__": "farebox._version",
    "attribute": "farebox.attribution",
    "suppress": "farebox.attribution",
    "record_usage": "farebox.manual",
    "track": "farebox.manual",
    "instrument": "farebox.startup",
    "uninstrument": "farebox.startup",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'farebox' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
