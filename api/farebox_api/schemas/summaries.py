"""Sums over usage rows, as answers."""
