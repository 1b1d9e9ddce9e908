"""Receives OTLP and books it: every acknowledged generative-AI span becomes one priced usage row, exactly once."""
