"""What the fake provider reports: one documented set of figures for each endpoint, the same on every run.

Tests and the demo write these figures out as literals; models in `RESPONSE_MODELS` answer under a dated name.
All counts are tokens unless the key says otherwise, in the provider's own shape (OpenAI: totals include the parts;
Anthropic: `input_tokens` excludes cache reads and writes).
"""

from __future__ import annotations

from typing import Any

Usage = dict[str, Any]

#: Request model → model named in the response, as the real providers do.
RESPONSE_MODELS = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-opus-4-1": "claude-opus-4-1-20250805",
}

#: /v1/chat/completions: 2006 in (1920 of them cached), 300 out (100 of them reasoning).
CHAT: Usage = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 100,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}

#: Chat models with figures of their own.
CHAT_BY_MODEL: dict[str, Usage] = {
    # 1500 in: 400 audio, 100 image, 200 written to the cache; 250 out: 150 audio.
    "gpt-4o-audio-preview": {
        "prompt_tokens": 1500,
        "completion_tokens": 250,
        "total_tokens": 1750,
        "prompt_tokens_details": {
            "cached_tokens": 0,
            "cache_write_tokens": 200,
            "audio_tokens": 400,
            "image_tokens": 100,
            "text_tokens": 1000,
        },
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 150, "text_tokens": 100},
    },
    # Thinking hidden behind an OpenAI-shaped door: total 109 > 35 + 12, so 74 tokens are billed as output.
    "gemini-2.5-pro": {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109},
    # OpenRouter states its cost.
    "openai/gpt-4o": {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "total_tokens": 2306,
        "cost": 0.00425,
        "cost_details": {"upstream_inference_cost": None},
        "prompt_tokens_details": {"cached_tokens": 1920},
        "completion_tokens_details": {"reasoning_tokens": 100},
    },
}

#: /v1/completions: 12 in, 16 out.
TEXT_COMPLETION: Usage = {"prompt_tokens": 12, "completion_tokens": 16, "total_tokens": 28}

#: /v1/responses: 3000 in (1000 read, 30 written for 30 minutes and 20 for 12 hours), 400 out (150 reasoning).
RESPONSES: Usage = {
    "input_tokens": 3000,
    "input_tokens_details": {
        "cached_tokens": 1000,
        "cache_write_tokens": 50,
        "cache_write_tokens_details": {"ttl_30m_tokens": 30, "ttl_12h_tokens": 20},
    },
    "output_tokens": 400,
    "output_tokens_details": {"reasoning_tokens": 150},
    "total_tokens": 3400,
}

#: /v1/responses/compact: 5000 in, 700 out.
COMPACT: Usage = {
    "input_tokens": 5000,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 700,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 5700,
}

#: /v1/embeddings: 8 in.
EMBEDDINGS: Usage = {"prompt_tokens": 8, "total_tokens": 8}
#: 64 in, 32 of them from the cache; 5 out.
DECISION: Usage = {
    "input_tokens": 64,
    "input_tokens_details": {"cached_tokens": 32, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 69,
}

#: /v1/images/*: 350 in (300 of them image), 1056 out (image).
IMAGES: Usage = {
    "input_tokens": 350,
    "input_tokens_details": {"image_tokens": 300, "text_tokens": 50},
    "output_tokens": 1056,
    "output_tokens_details": {"image_tokens": 1056, "text_tokens": 0},
    "total_tokens": 1406,
}

#: /v1/audio/transcriptions by a token-billed model: 140 in (100 audio), 25 out.
TRANSCRIPTION_TOKENS: Usage = {
    "type": "tokens",
    "input_tokens": 140,
    "input_token_details": {"audio_tokens": 100, "text_tokens": 40},
    "output_tokens": 25,
    "total_tokens": 165,
}

#: /v1/audio/{transcriptions,translations} by whisper-1: 9 seconds.
TRANSCRIPTION_SECONDS: Usage = {"type": "duration", "seconds": 9.0}

#: /v1/messages: 10 + 5000 read + 1000 written (700 for 5 minutes, 300 for 1 hour) = 6010 in, 200 out (60 thinking).
MESSAGES: Usage = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 1000,
    "cache_read_input_tokens": 5000,
    "cache_creation": {"ephemeral_5m_input_tokens": 700, "ephemeral_1h_input_tokens": 300},
    "output_tokens": 200,
    "output_tokens_details": {"thinking_tokens": 60},
    "server_tool_use": None,
    "service_tier": "standard",
    "inference_geo": "us",
}

#: Messages models with figures of their own.
MESSAGES_BY_MODEL: dict[str, Usage] = {
    # Two web searches: the input grows while the reply is written (message_start says 40, message_delta 90).
    "claude-opus-4-1": {
        "input_tokens": 90,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 500,
        "output_tokens_details": {"thinking_tokens": 0},
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
        "service_tier": "priority",
        "inference_geo": "not_available",
    },
    # 220 in seen on top; a compaction of 55000 in and 900 out stands beside it, and an advisor of another model.
    "claude-iterations": {
        "input_tokens": 220,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 30,
        "service_tier": "standard",
        "iterations": [
            {
                "type": "compaction",
                "input_tokens": 55000,
                "output_tokens": 900,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
            },
            {
                "type": "message",
                "input_tokens": 220,
                "output_tokens": 30,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
            },
            {
                "type": "advisor_message",
                "model": "claude-opus-4-1-20250805",
                "input_tokens": 1200,
                "output_tokens": 80,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 400,
            },
        ],
    },
}

#: What message_start says of the output before anything is written; never a final figure.
PLACEHOLDER_OUTPUT_TOKENS = 1


def response_model(model: str) -> str:
    return RESPONSE_MODELS.get(model, model)
