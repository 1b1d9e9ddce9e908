"""Ways into the books without OpenTelemetry: calls that somebody tells, by the API or from a file.

`RecordedCall` is what can be told. It becomes an event as a span would, is priced by the same function, and is booked
once, whatever the number of times it is told.
"""

from farebox_ledger.recording.booking import MAX_CALLS, Recorded, WriterSlot, preview, record
from farebox_ledger.recording.calls import RecordedCall, event_of

__all__ = ["MAX_CALLS", "Recorded", "RecordedCall", "WriterSlot", "event_of", "preview", "record"]
