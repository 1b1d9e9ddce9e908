"""The settings of the app side, read once from the environment.

Comes in: a mapping such as `os.environ`. Goes out: one frozen `Settings`. A wrong value is one log line and the
default; it never raises. `OTEL_EXPORTER_OTLP_*` is never read: it belongs to the app's own tracing, and our key must
not travel to its vendor, nor its headers to our collector.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from farebox import SDKS, safety

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off"})

DEFAULT_ENDPOINT = "http://127.0.0.1:4318"
DEFAULT_GRPC_ENDPOINT = "http://127.0.0.1:4317"
DEFAULT_BUFFER_MAX_BYTES = 64 * 1024 * 1024
PROTOCOLS = ("http/protobuf", "grpc")
TRACER_PROVIDERS = ("private", "global")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says; `None` means that the variable is absent."""

    endpoint: str = DEFAULT_ENDPOINT
    protocol: str = "http/protobuf"
    ingest_key: str | None = None
    instrument: frozenset[str] | None = None
    disabled_sdks: frozenset[str] = frozenset()
    inject_stream_usage: bool = True
    estimate_tokens: bool = False
    tracer_provider: str = "private"
    buffer_dir: Path = Path()
    buffer_max_bytes: int = DEFAULT_BUFFER_MAX_BYTES
    service: str | None = None
    project: str | None = None
    user: str | None = None
    tags: tuple[str, ...] = ()
    baggage: frozenset[str] = frozenset()

    def allows(self, sdk: str) -> bool:
        """Whether calls of this SDK are to be metered."""
        return sdk not in self.disabled_sdks and (self.instrument is None or sdk in self.instrument)


def read(environ: Mapping[str, str] | None = None) -> Settings:
    """Read all variables of the app side; see the table in the README for their meanings."""
    environ = os.environ if environ is None else environ
    protocol = _one_of(environ, "FAREBOX_PROTOCOL", PROTOCOLS)
    instrument = _sdks(environ, "FAREBOX_INSTRUMENT")
    return Settings(
        endpoint=_endpoint(environ, DEFAULT_GRPC_ENDPOINT if protocol == "grpc" else DEFAULT_ENDPOINT),
        protocol=protocol,
        ingest_key=_key(environ),
        instrument=frozenset(instrument) if instrument else None,
        disabled_sdks=frozenset(_sdks(environ, "FAREBOX_DISABLED_SDKS")),
        inject_stream_usage=_switch(environ, "FAREBOX_INJECT_STREAM_USAGE", default=True),
        estimate_tokens=_switch(environ, "FAREBOX_ESTIMATE_TOKENS", default=False),
        tracer_provider=_one_of(environ, "FAREBOX_TRACER_PROVIDER", TRACER_PROVIDERS),
        buffer_dir=_buffer_dir(environ),
        buffer_max_bytes=_byte_count(environ, "FAREBOX_BUFFER_MAX_BYTES", DEFAULT_BUFFER_MAX_BYTES),
        service=_text(environ, "FAREBOX_SERVICE"),
        project=_text(environ, "FAREBOX_PROJECT"),
        user=_text(environ, "FAREBOX_USER"),
        tags=tuple(part.strip() for part in environ.get("FAREBOX_TAGS", "").split(",") if part.strip()),
        baggage=frozenset(_names(environ, "FAREBOX_BAGGAGE")),
    )


def _wrong(name: str, value: str, expected: str, used: object) -> None:
    safety.say_once(f"config.{name}", f"{name}={value!r} is not {expected}; {used!r} is used instead.")


def _text(environ: Mapping[str, str], name: str) -> str | None:
    return environ.get(name, "").strip() or None


def _names(environ: Mapping[str, str], name: str) -> list[str]:
    return [part.strip().lower() for part in environ.get(name, "").split(",") if part.strip()]


def _sdks(environ: Mapping[str, str], name: str) -> list[str]:
    """Read names of SDKs; one that nobody knows is said, since what was meant by it stays as it is."""
    names = [sdk.replace("-", "_") for sdk in _names(environ, name)]  # as distributions spell them, too
    unknown = sorted(set(names) - SDKS.keys())
    if unknown:
        known = ", ".join(sorted(SDKS))
        safety.say_once(f"config.{name}", f"{name}: no SDK is called {', '.join(unknown)}; those known are {known}.")
    return names


def _switch(environ: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = environ.get(name, "").strip()
    if not value:  # as `${NAME:-}` leaves it in a compose file
        return default
    word = value.lower()
    if word in TRUE_WORDS or word in FALSE_WORDS:
        return word in TRUE_WORDS
    _wrong(name, value, "1 or 0", int(default))
    return default


def _one_of(environ: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    value = environ.get(name, "").strip().lower()
    if not value or value in allowed:
        return value or allowed[0]
    _wrong(name, value, " or ".join(allowed), allowed[0])
    return allowed[0]


def _byte_count(environ: Mapping[str, str], name: str, default: int) -> int:
    value = environ.get(name, "").strip()
    if not value:
        return default
    if value.isascii() and value.isdigit():
        return int(value)
    _wrong(name, value, "a number of bytes", default)
    return default


def _endpoint(environ: Mapping[str, str], default: str) -> str:
    value = environ.get("FAREBOX_ENDPOINT", "").strip().rstrip("/")
    if not value:
        return default
    try:
        parts = urlsplit(value)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_right = False
    if is_right:
        return value
    _wrong("FAREBOX_ENDPOINT", value, f"an address such as {default}", default)
    return default


def _key(environ: Mapping[str, str]) -> str | None:
    """Read the sender's key; the log line about a wrong one does not show it."""
    value = _text(environ, "FAREBOX_INGEST_KEY")
    if value is None or (value.isascii() and value.isprintable()):
        return value
    _wrong("FAREBOX_INGEST_KEY", "…", "printable ASCII", None)
    return None


def _buffer_dir(environ: Mapping[str, str]) -> Path:
    value = environ.get("FAREBOX_BUFFER_DIR", "").strip()
    return Path(value).expanduser() if value else state_folder(environ) / "buffer"


def state_folder(environ: Mapping[str, str]) -> Path:
    """The platform's folder for state that should survive restarts but is not worth a backup."""
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "farebox"
    if sys.platform == "darwin":
        return _home(environ) / "Library" / "Application Support" / "farebox"
    return Path(environ.get("XDG_STATE_HOME") or _home(environ) / ".local" / "state") / "farebox"


def _home(environ: Mapping[str, str]) -> Path:
    try:
        return Path(environ.get("HOME") or Path.home())
    except RuntimeError:  # a container user without a home directory and without HOME
        import tempfile

        return Path(tempfile.gettempdir())
