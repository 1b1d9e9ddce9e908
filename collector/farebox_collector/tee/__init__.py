"""Sends what senders sent on to other OTLP backends, byte for byte; opt-in, and never in the way of anything."""

from farebox_collector.tee.tee import NO_TEE, Tee, open_tee

__all__ = ["NO_TEE", "Tee", "open_tee"]
