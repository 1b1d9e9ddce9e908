"""Models that somebody declares free. A zero in a catalog is no declaration: it may mean a flat fee or unknown."""

from __future__ import annotations

from typing import Final

# Software that runs on the user's own machine; nobody sends a bill for a call.
_LOCAL_PROVIDERS: Final = frozenset({"ollama", "lemonade", "searxng"})

_FREE_MODELS: Final = frozenset(
    {
        # OpenAI Help Center: the moderation endpoint is free for API users (as quoted 2026-04-29).
        ("openai", "omni-moderation-latest"),
        ("openai", "omni-moderation-2024-09-26"),
    }
)


def is_declared_free(provider: str, model: str) -> bool:
    """Say whether a model is known to cost nothing. Ollama's `-cloud` models run on a paid plan, so they are not."""
    if provider in _LOCAL_PROVIDERS:
        return not model.endswith("-cloud")
    return (provider, model) in _FREE_MODELS
