"""The API's own figures for Prometheus, named as OpenTelemetry's semantic conventions name them. No tenant's data."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Telemetry:
    """Counts what one application answers; each application has its own registry."""

    def __init__(self) -> None:
        """Start at zero."""
        self._registry = CollectorRegistry()
        self._duration = Histogram(
            "http_server_request_duration_seconds",
            "Time from the first byte of a request to the last byte of its answer.",
            ("http_request_method", "http_route", "http_response_status_code"),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._active = Gauge(
            "http_server_active_requests", "Requests that are being answered.", registry=self._registry
        )

    def request_started(self) -> None:
        """Count a request in."""
        self._active.inc()

    def request_ended(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count a request out; `route` is the template (`/v1/usage/{id}`), so that the series stay few."""
        self._active.dec()
        self._duration.labels(method, route, str(status)).observe(duration_s)

    def exposition(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)
