"""Switch metering on and off in this process.

Comes in: `opentelemetry-instrument`, or a call by the app; what the start-up hook did before (`farebox.begin`) is found
here. Goes out: the post-import hooks of `farebox.patching`, which is itself loaded when the first SDK is imported. It
never raises and imports nothing heavy: an app without an LLM SDK pays for one look into a set at each import.
"""

import sys

from farebox import SDKS, Watch, begin, flush_at_exit, is_otel_disabled, is_watched

__all__ = ["begin", "instrument", "is_on", "uninstrument"]


_is_on = is_watched()  # where the start-up hook has put it


def instrument() -> bool:
    """Switch metering on, whatever FAREBOX_ENABLED says; True when it is on afterwards. Twice is as once.

    SDKs that are imported already are patched at once, others when they get imported. Does nothing when
    OTEL_SDK_DISABLED is true.
    """
    global _is_on
    if _is_on or is_otel_disabled():
        return _is_on
    try:
        _watch()
        _is_on = True
        flush_at_exit()
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
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Watch)]
    from farebox import patching

    patching.remove()


def is_on() -> bool:
    return _is_on


def _watch() -> None:
    if "farebox.patching" in sys.modules or not sys.modules.keys().isdisjoint(SDKS.values()):
        from farebox import patching

        patching.install()
    else:
        sys.meta_path.insert(0, Watch())
