"""Exact names of models that the archive keeps and finds by patterns alone.

genai-prices finds `claude-3-5-haiku-20241022` because it begins like a model; names are not matched so here. These are
the names under which the vendors served their retired models, each put under the model by whose pattern genai-prices
finds it. Most stood at the same price in LiteLLM 1.80.0 (November 2025), which has dropped them since. Not so:
`gemini-1.5-pro-002` and `-latest` (LiteLLM 1.80.0 had an older price), `gemini-2.0-flash-lite-001`, and family names
without a date, such as `claude-3-5-haiku`. What the archive prices is `assumed` in any case.
"""

from __future__ import annotations

from typing import Final

RETIRED_NAMES: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("anthropic", "claude-3-5-haiku-latest"): ("claude-3-5-haiku", "claude-3-5-haiku-20241022"),
    ("anthropic", "claude-3-5-sonnet"): (
        "claude-3-5-sonnet-20240620", "claude-3-5-sonnet-20241022", "claude-3-5-sonnet-latest",
    ),
    ("anthropic", "claude-3-7-sonnet-latest"): ("claude-3-7-sonnet", "claude-3-7-sonnet-20250219"),
    ("anthropic", "claude-3-haiku"): ("claude-3-haiku-20240307",),
    ("anthropic", "claude-3-opus-latest"): ("claude-3-opus", "claude-3-opus-20240229"),
    ("anthropic", "claude-3-sonnet"): ("claude-3-sonnet-20240229",),
    ("anthropic", "claude-opus-4-0"): ("claude-4-opus-20250514",),
    ("anthropic", "claude-opus-4-1"): ("claude-opus-4-1-20250805",),
    ("anthropic", "claude-sonnet-4-0"): ("claude-4-sonnet-20250514", "claude-sonnet-4-20250514"),
    ("openai", "gpt-4.5-preview"): ("gpt-4.5-preview-2025-02-27",),
    ("openai", "gpt-4o-realtime-preview"): (
        "gpt-4o-realtime-preview-2024-12-17", "gpt-4o-realtime-preview-2025-06-03",
    ),
    ("google", "gemini-1.5-flash"): ("gemini-1.5-flash-001", "gemini-1.5-flash-002", "gemini-1.5-flash-latest"),
    ("google", "gemini-1.5-pro"): ("gemini-1.5-pro-002", "gemini-1.5-pro-latest"),
    ("google", "gemini-2.0-flash"): ("gemini-2.0-flash-001",),
    ("google", "gemini-2.0-flash-lite"): ("gemini-2.0-flash-lite-001", "gemini-2.0-flash-lite-preview-02-05"),
    ("google", "gemini-2.5-flash-lite"): (
        "gemini-2.5-flash-lite-preview-06-17", "gemini-2.5-flash-lite-preview-09-2025",
    ),
    ("google", "gemini-2.5-flash-preview"): ("gemini-2.5-flash-preview-04-17",),
    ("google", "gemini-2.5-pro"): (
        "gemini-2.5-pro-preview-03-25", "gemini-2.5-pro-preview-05-06", "gemini-2.5-pro-preview-06-05",
    ),
    ("google", "claude-3-5-sonnet"): ("claude-3-5-sonnet-v2", "claude-3-5-sonnet-v2@20241022"),
    ("google", "claude-3-7-sonnet"): ("claude-3-7-sonnet@20250219",),
    ("google", "claude-4-opus"): ("claude-opus-4@20250514", "claude-opus-4-1", "claude-opus-4-1@20250805"),
    ("google", "claude-4-sonnet"): ("claude-sonnet-4@20250514",),
    ("mistral", "magistral-medium"): ("magistral-medium-2506", "magistral-medium-2509"),
    ("mistral", "magistral-small"): ("magistral-small-2506",),
    ("aws", "regional.anthropic.claude-3-haiku-20240307-v1:0"): tuple(
        f"{geo}anthropic.claude-3-haiku-20240307-v1:0" for geo in ("", "us.", "eu.", "apac.")
    ),
    ("aws", "regional.anthropic.claude-3-sonnet-20240229-v1:0"): tuple(
        f"{geo}anthropic.claude-3-sonnet-20240229-v1:0" for geo in ("", "us.", "eu.", "apac.")
    ),
}  # fmt: skip
"""(genai-prices' provider, its model id) → names."""
