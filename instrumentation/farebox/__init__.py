"""Meter the LLM calls of this process.

Comes in: calls of LLM SDKs, and what the app says about who makes them. Goes out: OpenTelemetry spans to a collector.
Importing this package imports nothing else: each public name is loaded when it is first asked for. What the start-up
hook does in every interpreter stands here and in no module of its own: that would double what the hook costs.
"""

import os
import sys

TYPE_CHECKING = False  # the one of `typing` would import `typing` into every interpreter that has the hook
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

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

#: SDK file → the import that makes us load it.
SDKS = {
    "anthropic": "anthropic",
    "azure_ai_inference": "azure.ai.inference",
    "bedrock": "botocore",
    "cohere": "cohere",
    "google_genai": "google.genai",
    "groq": "groq",
    "huggingface_hub": "huggingface_hub",
    "litellm": "litellm",
    "mistralai": "mistralai",
    "ollama": "ollama",
    "openai": "openai",
    "together": "together",
}
_ROOTS = frozenset(SDKS.values())


def begin() -> None:
    """Switch metering on when the environment says so; called by the start-up hook of every interpreter.

    That may be more than once in one: Python reads the `.pth` files of some environments twice.
    """
    if not is_wanted() or is_watched():
        return
    if _ROOTS.isdisjoint(sys.modules) and "farebox.startup" not in sys.modules:
        sys.meta_path.insert(0, Watch())
        flush_at_exit()
    else:
        from farebox.startup import instrument

        instrument()


def is_wanted() -> bool:
    """Whether FAREBOX_ENABLED is on, and OpenTelemetry is not switched off as a whole."""
    word = os.environ.get("FAREBOX_ENABLED", "").strip().lower()
    return word in ("1", "true", "yes", "on") and not is_otel_disabled()


def is_otel_disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def is_watched() -> bool:
    """Whether a finder of ours sees the imports of this process."""
    return any(isinstance(finder, Watch) for finder in sys.meta_path)


class Watch:
    """Stands where the finder of `farebox.patching` will stand from the first import of an SDK on."""

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name not in _ROOTS:
            return None
        try:
            from farebox import patching

            finder = patching.install()
            # In one step, for whoever walks along this list now: one finder comes, and one goes.
            sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
        except Exception:  # noqa: BLE001 - the import of the app's SDK must succeed whatever happens here
            from farebox import safety

            safety.report("startup")
            return None
        return finder.find_spec(name, path, target)


def flush_at_exit() -> None:
    """Register early, so that the flush runs late: exit handlers of the app may still make calls. Twice is as once."""
    import atexit

    atexit.unregister(_flush)
    atexit.register(_flush)


def _flush() -> None:
    exporting = sys.modules.get("farebox.exporting")
    if exporting is not None:
        exporting.flush_at_exit()


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
