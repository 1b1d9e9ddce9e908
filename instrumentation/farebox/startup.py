"""Switch metering on and off in this process.

Comes in: the start-up hook (`farebox.pth`, `farebox.start`), `opentelemetry-instrument`, or a call by the app. Goes
out: the post-import hooks of `farebox.patching`, which is itself loaded when the first SDK is imported. It never raises
and imports nothing heavy: an app that never imports an LLM SDK pays for one look into a dictionary at each import.
"""

import os
import sys

TYPE_CHECKING = False  # importing `typing` would cost every interpreter that has the hook
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

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

TRUE_WORDS = ("1", "true", "yes", "on")

_is_on = False


def begin() -> None:
    """Switch metering on when the environment says so; called by the start-up hook of every interpreter."""
    if is_wanted():
        instrument()


def is_wanted() -> bool:
    """Whether FAREBOX_ENABLED is on, and OpenTelemetry is not switched off as a whole."""
    return os.environ.get("FAREBOX_ENABLED", "").strip().lower() in TRUE_WORDS and not _is_otel_disabled()


def instrument() -> bool:
    """Switch metering on, whatever FAREBOX_ENABLED says; True when it is on afterwards. Twice is as once.

    SDKs that are imported already are patched at once, others when they get imported. Does nothing when
    OTEL_SDK_DISABLED is true.
    """
    global _is_on
    if _is_on or _is_otel_disabled():
        return _is_on
    try:
        _watch()
        _is_on = True
        _flush_at_exit()
    except Exception:  # noqa: BLE001 - the interpreter of the app must start whatever happens here
        from farebox import safety

        safety.report("startup")
    return _is_on


def uninstrument() -> None:
    """Switch metering off: every patched attribute is again the object that it was. Spans that wait are still sent."""
    global _is_on
    if not _is_on:
        return
    _is_on = False
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Watch)]
    from farebox import patching

    patching.remove()


def is_on() -> bool:
    return _is_on


class _Watch:
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


def _watch() -> None:
    if "farebox.patching" in sys.modules or not _ROOTS.isdisjoint(sys.modules):
        from farebox import patching

        patching.install()
    else:
        sys.meta_path.insert(0, _Watch())


def _is_otel_disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _flush_at_exit() -> None:
    """Register early, so that the flush runs late: exit handlers of the app may still make calls."""
    import atexit

    atexit.unregister(_flush)
    atexit.register(_flush)


def _flush() -> None:
    exporting = sys.modules.get("farebox.exporting")
    if exporting is not None:
        exporting.flush_at_exit()
