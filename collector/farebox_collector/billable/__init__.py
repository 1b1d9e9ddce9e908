"""Which spans of a trace are billed: a pure function of the set of its generative-AI spans.

All events of one trace come in, new ones and those in the books, in any order; one verdict each goes out. Nothing
else decides: no clock, no arrival, no price. So any order and any batching of the same spans ends in the same bill.

Links run through generative-AI spans only, since no other span is kept. One call that two libraries tell in a trace
each is judged apart, by its response id (`judge_across`): a pure function of what the traces' verdicts leave.

There is no settle window either: a container whose calls have not come yet says `aggregate_only` at once, and its row
is changed when they come. A window would need a clock, and then the bill would depend on when somebody looked.
"""

from farebox_collector.billable.across import SpanKey, judge_across, response_of, span_key
from farebox_collector.billable.judging import judge
from farebox_collector.billable.verdicts import BILLED, Verdict, Verdicts, is_missing_children
from farebox_collector.billable.versions import version_rank, winner

__all__ = [
    "BILLED",
    "SpanKey",
    "Verdict",
    "Verdicts",
    "is_missing_children",
    "judge",
    "judge_across",
    "response_of",
    "span_key",
    "version_rank",
    "winner",
]
