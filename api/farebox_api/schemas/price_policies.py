"""Price policies, as answers and as bodies."""

from __future__ import annotations

import msgspec

from farebox_api.bodies import Input
from farebox_ledger.pricing import Policy


class PolicyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Which prices an organization's calls are charged with.

    `use_archive` and `carry_retired` allow second-best prices, from the archive and from the catalog's past; rows
    charged with them are `assumed`. `stated_cost_bills`: a call costs what its provider states, where it does.
    `aggregate_only_bills`: usage that only an agent or chain tells, and none of its calls, is `assumed` too.
    """

    use_archive: bool
    carry_retired: bool
    stated_cost_bills: bool
    aggregate_only_bills: bool


class PolicyInput(Input, frozen=True):
    """The whole policy; what is left out is as for everybody."""

    use_archive: bool = True
    carry_retired: bool = True
    stated_cost_bills: bool = False
    aggregate_only_bills: bool = False

    def policy(self) -> Policy:
        """Hand it to the ledger."""
        return Policy(
            use_archive=self.use_archive,
            carry_retired=self.carry_retired,
            stated_cost_bills=self.stated_cost_bills,
            aggregate_only_bills=self.aggregate_only_bills,
        )


def policy_answer(policy: Policy) -> PolicyAnswer:
    """Write a policy."""
    return PolicyAnswer(
        use_archive=policy.use_archive,
        carry_retired=policy.carry_retired,
        stated_cost_bills=policy.stated_cost_bills,
        aggregate_only_bills=policy.aggregate_only_bills,
    )
