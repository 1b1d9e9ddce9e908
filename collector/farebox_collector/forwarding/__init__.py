"""Sends reduced spans on to a gateway: from the spool as OTLP over HTTP, each under its sender's key."""

from farebox_collector.forwarding.delivery import Delivery
from farebox_collector.forwarding.gateway import Gateway
from farebox_collector.forwarding.senders import PassedOnSenders

__all__ = ["Delivery", "Gateway", "PassedOnSenders"]
