"""The door for `opentelemetry-instrument`: it finds us by the entry point `opentelemetry_instrumentor`.

Nothing else imports this module: `BaseInstrumentor` comes with `opentelemetry-instrumentation`, which is no dependency.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined,unused-ignore]

from farebox import startup


class FareboxInstrumentor(BaseInstrumentor):  # type: ignore[misc,unused-ignore]  # it re-exports an untyped name
    """Switches metering on as the start-up hook does; both together switch it on once."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: every SDK is patched when it gets imported, whatever its version."""
        return []

    def _instrument(self, **kwargs: Any) -> None:
        startup.instrument()

    def _uninstrument(self, **kwargs: Any) -> None:
        startup.uninstrument()
