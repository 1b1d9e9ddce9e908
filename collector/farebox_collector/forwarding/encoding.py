"""Plain spans → an OTLP trace request in protobuf, from which a gateway decodes the same plain spans again.

What the sender's resource said stands on each span already. Each span also says when it was received: so its row is the
one that it would have become without the hop, and the gateway finds a mark of ours in it, whoever emitted it.
"""

from __future__ import annotations

from collections.abc import Iterable

from farebox_collector import spans_pb2
from farebox_collector.spans import RECEIVED_AT, STATUS_ERROR, AttributeValue, Batch, Span, received_at_us


def encoded(batches: Iterable[Batch]) -> bytes:
    """Write the spans of some batches, which need not be of one sender's request but are of one key."""
    request = spans_pb2.Request()
    resource_spans = request.resource_spans.add()
    scopes: dict[str, spans_pb2.ScopeSpans] = {}
    for batch in batches:
        for span in batch.spans:
            scope_spans = scopes.get(span.scope)
            if scope_spans is None:
                scope_spans = scopes[span.scope] = resource_spans.scope_spans.add()
                scope_spans.scope.name = span.scope.encode()
            scope_spans.spans.append(_encoded_span(span, received_at_us(span, batch)))
    return request.SerializeToString()


def _encoded_span(span: Span, received: int) -> bytes:
    message = spans_pb2.Span(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id or b"",
        kind=span.kind,
        start_time_unix_nano=(span.start_us or 0) * 1000,
        end_time_unix_nano=span.end_us * 1000,
    )
    for key, value in span.attributes.items():
        message.attributes[key] = _encoded_value(value)
    message.attributes[RECEIVED_AT] = _encoded_value(received)
    if span.is_error:
        message.status.code = STATUS_ERROR
        message.status.message = (span.status_message or "").encode()
    return message.SerializeToString()


def _encoded_value(value: AttributeValue) -> bytes:
    if isinstance(value, str):
        return spans_pb2.Value(string_value=value.encode()).SerializeToString()
    if isinstance(value, bool):
        return spans_pb2.Value(bool_value=value).SerializeToString()
    if isinstance(value, int):
        return spans_pb2.Value(int_value=value).SerializeToString()
    if isinstance(value, float):
        return spans_pb2.Value(double_value=value).SerializeToString()
    message = spans_pb2.Value()
    message.array_value.SetInParent()  # an empty list is a list
    message.array_value.values.extend(spans_pb2.Value(string_value=item.encode()) for item in value)
    return message.SerializeToString()
