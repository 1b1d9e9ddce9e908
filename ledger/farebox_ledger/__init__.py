"""Keeps the books: money, usage, prices, the store. Knows no server and no telemetry."""
