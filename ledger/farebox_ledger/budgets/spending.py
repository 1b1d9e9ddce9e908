"""What was spent of a budget: exactly what a summary of the same filter and range says, read from the same sums."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from sqlalchemy import Connection

from farebox_ledger.budgets.periods import Window
from farebox_ledger.store.budgets import Budget
from farebox_ledger.store.scope import OrgScope
from farebox_ledger.store.summaries import SummaryQuery, summarize


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """The money of one period of a budget, in pico-units of its currency.

    `other_currencies` says what was spent beside it, which the budget does not count. Unpriced and partly priced rows
    may cost more than is known. `data_through_us` is the end of the newest call in the organization's books, None when
    there is none: what came after it is not in here.
    """

    window: Window
    spent_pico: int
    requests: int
    unpriced_rows: int
    partial_rows: int
    other_currencies: Mapping[str, int]
    data_through_us: int | None

    @property
    def is_complete(self) -> bool:
        """Say whether every row of the period has its whole price."""
        return not self.unpriced_rows and not self.partial_rows


def spending(connection: Connection, budget: Budget, window: Window) -> Spending:
    """Sum up one period of a budget."""
    query = SummaryQuery(filter=budget.scope.filter(budget.org_id), start_us=window.start_us, end_us=window.end_us)
    summary = summarize(connection, OrgScope(budget.org_id), query)
    costs = {group.currency: group.cost_pico or 0 for group in summary.groups if group.currency is not None}
    return Spending(
        window=window,
        spent_pico=costs.pop(budget.currency, 0),
        requests=sum(group.requests for group in summary.groups),
        unpriced_rows=sum(group.unpriced_rows for group in summary.groups),
        partial_rows=sum(group.partial_rows for group in summary.groups),
        other_currencies=dict(sorted(costs.items())),
        data_through_us=summary.data_through_us,
    )
