"""Switch metering on and off in this process.

Comes in: the start-up hook (`farebox.pth`, `farebox.start`), `opentelemetry-instrument`, or a call by the app. Goes
out: the post-import hooks of `farebox.patching`. It never raises and imports nothing heavy: an app that never imports
an LLM SDK pays for a few dictionary entries.
"""

import os

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
        from farebox import patching

        patching.install()
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
    from farebox import patching

    patching.remove()


def is_on() -> bool:
    return _is_on


def _is_otel_disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _flush_at_exit() -> None:
    """Register early, so that the flush runs late: exit handlers of the app may still make calls."""
    import atexit

    atexit.unregister(_flush)
    atexit.register(_flush)


def _flush() -> None:
    import sys

    exporting = sys.modules.get("farebox.exporting")
    if exporting is not None:
        exporting.flush_at_exit()
