"""What the collector counts about itself, in Prometheus's format: otelcol's names where they exist, then our own.

Counts of this process stand in counters; the spool's totals, which survive restarts, are read when somebody asks.
Labels are closed sets, never anything that a sender chooses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, Literal, TypeAlias, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from farebox_collector.sequence import Sequences
from farebox_collector.spool import Snapshot, Spool

Transport: TypeAlias = Literal["grpc", "http"]
Signal: TypeAlias = Literal["traces", "logs", "metrics"]

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_RECEIVER: Final = ("receiver", "transport")


class Telemetry:
    """All counters of one collector; made once by `app` and passed down."""

    def __init__(self) -> None:
        """Register every name at once, so that a dashboard sees zeros and not gaps."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter that nobody asks for
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        accepted = self._counter("otelcol_receiver_accepted_spans", "Spans acknowledged.", _RECEIVER)
        self._refused = self._counter("otelcol_receiver_refused_spans", "Spans of retryable refusals.", _RECEIVER)
        self._accepted_records = self._counter(
            "otelcol_receiver_accepted_log_records", "Log records acknowledged that report a call.", _RECEIVER
        )
        self._requests = self._counter(
            "farebox_requests", "Requests by signal and answer.", ("transport", "signal", "status")
        )
        self._dropped = self._counter(
            "farebox_dropped_records", "Log records and metrics, accepted and not kept.", ("transport", "signal")
        )
        self.rejected_spans = self._counter(
            "farebox_rejected_spans", "Spans rejected alone and quarantined, by reason.", ("reason",)
        )
        self.sent_spans = self._counter("otelcol_exporter_sent_spans", "Spans booked.", ("exporter",))
        self.send_failures = self._counter(
            "otelcol_exporter_send_failed_spans",
            "Spans in failed attempts at booking; they are tried again.",
            ("exporter",),
        )
        self.enqueue_failures = self._counter(
            "otelcol_exporter_enqueue_failed_spans", "Spans that the spool did not take.", ("exporter",)
        )
        self.rows = self._counter("farebox_usage_rows", "Usage rows written.", ("status",))
        self.unbilled = self._counter("farebox_unbilled_rows", "Usage rows without a price, by reason.", ("reason",))
        self.suppressed = self._counter("farebox_suppressed_rows", "Calls that another row bills.", ("rule",))
        self.changed = self._counter("farebox_changed_charges", "Booked charges that a later span changed.", ())
        self.missing_children = self._counter(
            "farebox_missing_children",
            "Containers booked with more usage than the calls below them; calls that come later may settle it.",
            (),
        )
        self.crashes = self._counter("farebox_booking_crashes", "Attempts at booking that crashed.", ())
        self.commit_seconds = Histogram(
            "farebox_commit_seconds", "One booking transaction.", registry=self.registry, buckets=_SECONDS
        )
        ack_seconds = Histogram(
            "farebox_ack_seconds",
            "From a request's arrival to its answer.",
            ("transport",),
            registry=self.registry,
            buckets=_SECONDS,
        )
        # What is counted for every request is looked up once: finding a metric by its labels costs more than counting.
        self.ack_seconds = {transport: ack_seconds.labels(transport) for transport in get_args(Transport)}
        self._accepted_spans = {transport: accepted.labels("otlp", transport) for transport in get_args(Transport)}
        for transport in get_args(Transport):
            self._refused.labels("otlp", transport)
        for counter in (self.sent_spans, self.send_failures, self.enqueue_failures):
            counter.labels("farebox")
        self._requests_by: dict[tuple[Transport, Signal, str], Counter] = {}

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def count_request(self, transport: Transport, signal: Signal, status: str) -> None:
        key = (transport, signal, status)
        counter = self._requests_by.get(key)
        if counter is None:
            counter = self._requests_by[key] = self._requests.labels(*key)
        counter.inc()

    def count_accepted(self, transport: Transport, spans: int) -> None:
        self._accepted_spans[transport].inc(spans)

    def count_accepted_records(self, transport: Transport, records: int) -> None:
        self._accepted_records.labels("otlp", transport).inc(records)

    def count_refused(self, transport: Transport, spans: int) -> None:
        self._refused.labels("otlp", transport).inc(spans)
        self.enqueue_failures.labels("farebox").inc(spans)

    def count_dropped(self, transport: Transport, signal: Signal, records: int) -> None:
        self._dropped.labels(transport, signal).inc(records)

    def watch_spool(self, spool: Spool) -> None:
        """Show the spool's totals from now on."""
        self.registry.register(_SpoolMetrics(spool))

    def watch_sequences(self, sequences: Sequences) -> None:
        """Show from now on what is missing of the numbers that processes give their spans."""
        self.registry.register(_SequenceMetrics(sequences))

    def watch_kept_spans(self, read: Callable[[], int]) -> None:
        """Show from now on what a forwarder keeps for keys that its gateway refuses."""
        kept = Gauge(
            "farebox_forward_kept_spans",
            "Spans in the spool whose key the gateway refuses.",
            registry=self.registry,
        )
        kept.set_function(read)

    def exposition(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self.registry)


class _SpoolMetrics:
    """Reads the spool when Prometheus asks."""

    _TOTALS: Final = {
        "accepted": ("farebox_accepted_spans", "Spans of acknowledged requests."),
        "not_genai": ("farebox_not_genai_spans", "Spans without generative-AI data, counted and not kept."),
        "quarantined": ("farebox_quarantined_spans", "Spans in or once in the quarantine."),
        "rows": ("farebox_booked_spans", "Spans that became usage rows."),
        "forwarded": ("farebox_forwarded_spans", "Spans that the gateway took."),
        "duplicates": ("farebox_duplicate_spans", "Spans that stood in the books already."),
        "replayed": ("farebox_replayed_spans", "Spans of batches that were booked before a crash and met after it."),
        "quarantine_dropped": ("farebox_quarantine_dropped_spans", "Rejected spans that the quarantine forgot."),
    }

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def collect(self) -> Iterator[Metric]:
        snapshot = self._spool.snapshot()
        for counter, (name, text) in self._TOTALS.items():
            yield CounterMetricFamily(name, text, snapshot.counters.get(counter, 0))
        yield from self._gauges(snapshot)

    def _gauges(self, snapshot: Snapshot) -> Iterator[Metric]:
        oldest = self._spool.oldest_received_at_us()
        age_s = 0.0 if oldest is None else max(0.0, time.time() - oldest / 1e6)
        for name, text, value in (
            ("otelcol_exporter_queue_size", "Bytes that wait to be booked.", snapshot.pending_bytes),
            ("otelcol_exporter_queue_capacity", "Bytes that may wait to be booked.", snapshot.max_bytes),
            ("farebox_spool_bytes", "Bytes that wait to be booked.", snapshot.pending_bytes),
            ("farebox_spool_spans", "Spans that wait to be booked.", snapshot.pending_spans),
            ("farebox_spool_oldest_age_seconds", "Age of the oldest span that waits.", age_s),
            ("farebox_quarantine_rows", "Spans in the quarantine.", snapshot.quarantine_rows),
            (
                "farebox_conservation_difference",
                "Accepted spans minus all places where they can be; 0 unless spans are lost or counted twice.",
                snapshot.conservation_difference,
            ),
        ):
            yield GaugeMetricFamily(name, text, value)


class _SequenceMetrics:
    """Reads the numbers of the senders when Prometheus asks."""

    def __init__(self, sequences: Sequences) -> None:
        self._sequences = sequences

    def collect(self) -> Iterator[Metric]:
        standing = self._sequences.standing()
        yield GaugeMetricFamily(
            "farebox_sequence_missing",
            "Spans that have not come, by the numbers that metered processes give theirs.",
            standing.missing,
        )
        yield GaugeMetricFamily(
            "farebox_sequence_processes", "Metered processes whose numbers are remembered.", standing.processes
        )
        yield CounterMetricFamily(
            "farebox_sequence_given_up_spans",
            "Missing spans that are not waited for any more: of processes or gaps that were forgotten.",
            standing.given_up,
        )
