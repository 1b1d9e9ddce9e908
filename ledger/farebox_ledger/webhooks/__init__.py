"""Webhooks on their way out: signed by the convention of Standard Webhooks, sent by a job, tried again, given up."""

from farebox_ledger.webhooks.delivering import DELIVER, deliver_due, deliver_webhooks
from farebox_ledger.webhooks.signing import signature, signed_headers

__all__ = ["DELIVER", "deliver_due", "deliver_webhooks", "signature", "signed_headers"]
