"""Every filter of usage rows, read once for the list, the summary and the exports."""

from __future__ import annotations

from typing import Annotated

from litestar.params import QueryParameter

from farebox_api.errors import invalid_parameter
from farebox_api.parameters import AMOUNT_PATTERN, TRACE_ID_PATTERN, amount, time_range_us
from farebox_api.parameters import trace_id as read_trace_id
from farebox_api.routes.queries import End, Start, named
from farebox_ledger.store.querying import UsageFilter
from farebox_ledger.usage import BillingStatus, CallStatus, Reason


def usage_filter(
    *,
    project: Annotated[str | None, named("Project.")] = None,
    user: Annotated[str | None, named("User, as the sender calls them.")] = None,
    user_email: Annotated[str | None, named("E-mail address of the user.")] = None,
    key: Annotated[str | None, named("Public id of the sender's key.")] = None,
    provider: Annotated[str | None, named("Provider.")] = None,
    model: Annotated[str | None, named("Model as billed.")] = None,
    model_config: Annotated[str | None, named("Model configuration.")] = None,
    service: Annotated[str | None, named("Service.")] = None,
    action: Annotated[str | None, named("Action of the service.")] = None,
    category: Annotated[str | None, named("Category.")] = None,
    task_type: Annotated[str | None, named("Kind of task.")] = None,
    task_id: Annotated[str | None, named("Task.")] = None,
    content_type: Annotated[str | None, named("Kind of content.")] = None,
    status: Annotated[CallStatus | None, QueryParameter(description="How the call ended.")] = None,
    billing_status: Annotated[BillingStatus | None, QueryParameter(description="How the row is billed.")] = None,
    reason: Annotated[Reason | None, QueryParameter(description="Why the row is not plainly billed.")] = None,
    min_cost: Annotated[
        str | None, named("Least cost, inclusive, in the row's currency.", pattern=AMOUNT_PATTERN)
    ] = None,
    max_cost: Annotated[
        str | None,
        named("Greatest cost, inclusive, in the row's currency.", pattern=AMOUNT_PATTERN),
    ] = None,
    trace_id: Annotated[str | None, named("Trace, as 32 hex digits.", pattern=TRACE_ID_PATTERN)] = None,
    tag: Annotated[str | None, named("A tag that the row carries.")] = None,
    start: Start = None,
    end: End = None,
) -> UsageFilter:
    """Read every filter of usage rows but `organization`, which decides what is opened rather than what is chosen.

    Raises:
        InvalidRequest: a time, an amount or a range cannot be; names the parameter.
    """
    start_us, end_us = time_range_us(start, end)
    least, most = amount("min_cost", min_cost), amount("max_cost", max_cost)
    if least is not None and most is not None and most < least:
        raise invalid_parameter("max_cost", "must not lie below min_cost")
    return UsageFilter(
        project=project,
        user=user,
        user_email=user_email,
        key=key,
        provider=provider,
        model=model,
        model_config=model_config,
        service=service,
        action=action,
        category=category,
        task_type=task_type,
        task_id=task_id,
        content_type=content_type,
        status=status,
        billing_status=billing_status,
        reason=reason,
        min_cost=least,
        max_cost=most,
        trace_id=read_trace_id("trace_id", trace_id),
        tag=tag,
        start_us=start_us,
        end_us=end_us,
    )
