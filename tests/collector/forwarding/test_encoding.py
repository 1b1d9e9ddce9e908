"""What is encoded for the gateway is decoded there as it was."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from farebox_collector import dialects
from farebox_collector.decode import Selection, decode_protobuf
from farebox_collector.forwarding.encoding import encoded
from farebox_collector.spans import RECEIVED_AT, AttributeValue, Batch, Sender, Span, received_at_us

NOW_US = 1_763_690_000_000_000
SENDER = Sender(0, "")
SELECTION = Selection(dialects.MARKS, dialects.KEYS | {RECEIVED_AT})
TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=50)
VALUE: st.SearchStrategy[AttributeValue] = st.one_of(
    TEXT,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.lists(TEXT, max_size=5),
)
SPANS = st.builds(
    Span,
    trace_id=st.binary(min_size=16, max_size=16).filter(any),
    span_id=st.binary(min_size=8, max_size=8).filter(any),
    parent_span_id=st.none() | st.binary(min_size=8, max_size=8).filter(any),
    scope=st.sampled_from(["", "farebox.sdks.openai", "openlit", "übung"]),
    kind=st.integers(0, 5),
    start_us=st.none() | st.integers(NOW_US - 10**9, NOW_US - 10**6),
    end_us=st.integers(NOW_US - 10**6, NOW_US),
    is_error=st.just(False),
    status_message=st.none(),
    attributes=st.dictionaries(st.sampled_from(sorted(dialects.KEYS - {"farebox.sequence"})), VALUE, max_size=8),
)


def decoded(*batches: Batch, at_us: int = NOW_US) -> list[Span]:
    found = decode_protobuf(encoded(batches), SELECTION, at_us)
    assert (found.rejected, found.others) == ([], 0)
    return found.spans


@settings(max_examples=300, deadline=None)
@given(SPANS)
def test_a_span_survives_the_hop(span: Span) -> None:
    (arrived,) = decoded(Batch(1, SENDER, NOW_US - 5, [span], 0))

    assert arrived.attributes.pop(RECEIVED_AT) == NOW_US - 5
    assert arrived == span


def test_a_failure_survives_the_hop_scrubbed_as_it_is() -> None:
    message = "Rate limit of [secret] reached, ask [email]"
    span = Span(b"t" * 16, b"s" * 8, None, "", 3, None, NOW_US, True, message, {})

    (arrived,) = decoded(Batch(1, SENDER, NOW_US, [span], 0))

    assert (arrived.is_error, arrived.status_message) == (True, message)


def test_the_first_time_of_receipt_stands_after_two_hops() -> None:
    span = Span(b"t" * 16, b"s" * 8, None, "", 3, None, NOW_US, False, None, {})
    first = decoded(Batch(1, SENDER, NOW_US, [span], 0), at_us=NOW_US + 60)
    second = decoded(Batch(1, SENDER, NOW_US + 60, first, 0), at_us=NOW_US + 120)

    assert received_at_us(second[0], Batch(1, SENDER, NOW_US + 120, second, 0)) == NOW_US


def test_nobody_can_claim_a_receipt_in_the_future() -> None:
    span = Span(b"t" * 16, b"s" * 8, None, "", 3, None, NOW_US, False, None, {RECEIVED_AT: NOW_US + 1})

    assert received_at_us(span, Batch(1, SENDER, NOW_US, [span], 0)) == NOW_US
    span.attributes[RECEIVED_AT] = "yesterday"
    assert received_at_us(span, Batch(1, SENDER, NOW_US, [span], 0)) == NOW_US


def test_spans_of_several_requests_keep_their_own_scopes_and_times() -> None:
    spans = [
        Span(b"t" * 16, bytes([number]) * 8, None, f"scope.{number % 2}", 3, None, NOW_US, False, None, {})
        for number in range(1, 5)
    ]
    batches = [Batch(number, SENDER, NOW_US - number, [span], 0) for number, span in enumerate(spans)]

    arrived = {span.span_id: (span.scope, span.attributes[RECEIVED_AT]) for span in decoded(*batches)}

    assert arrived == {span.span_id: (span.scope, NOW_US - number) for number, span in enumerate(spans)}
