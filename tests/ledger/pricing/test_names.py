from __future__ import annotations

import pytest

from farebox_ledger.pricing.names import (
    ModelName,
    candidates,
    canonical_provider,
    comparable,
    fine_tuned_base,
    from_arn,
    from_publisher_path,
    split_region,
    with_region,
    without_date,
    without_own_provider,
    without_version_tags,
)


@pytest.mark.parametrize(
    ("said", "canonical"),
    [
        ("openai", "openai"),
        (" OpenAI ", "openai"),
        ("text-completion-openai", "openai"),
        ("azure", "azure.ai.openai"),
        ("az.ai.openai", "azure.ai.openai"),
        ("azure_ai", "azure.ai.inference"),
        ("bedrock_converse", "aws.bedrock"),
        ("vertex_ai-anthropic_models", "gcp.vertex_ai"),
        ("gemini", "gcp.gemini"),
        ("gcp.gen_ai", "gcp.gemini"),
        ("mistral", "mistral_ai"),
        ("xai", "x_ai"),
        ("watsonx", "ibm.watsonx.ai"),
        ("Some-Gateway", "some-gateway"),
        ("", None),
        ("  ", None),
        (None, None),
    ],
)
def test_a_provider_has_one_canonical_name(said: str | None, canonical: str | None) -> None:
    assert canonical_provider(said) == canonical


def test_names_are_compared_trimmed_composed_and_folded() -> None:
    assert comparable("  GPT-4o ") == "gpt-4o"
    assert comparable("café") == comparable("CAFÉ")


def test_only_the_own_provider_is_dropped_in_front() -> None:
    assert without_own_provider("azure/eu/gpt-4o", "azure.ai.openai") == "eu/gpt-4o"
    assert without_own_provider("openai/gpt-oss-120b", "groq") == "openai/gpt-oss-120b"
    assert without_own_provider("openai/", "openai") == "openai/"


def test_a_vertex_path_gives_model_region_and_publisher() -> None:
    assert from_publisher_path(
        "projects/p/locations/us-east5/publishers/anthropic/models/claude-opus-4-5@20251101"
    ) == (ModelName("claude-opus-4-5@20251101", "us-east5", "anthropic"))
    assert from_publisher_path("publishers/google/models/gemini-2.5-pro") == (
        ModelName("gemini-2.5-pro", None, "google")
    )
    assert from_publisher_path("gemini-2.5-pro") == ModelName("gemini-2.5-pro")


def test_an_arn_gives_model_and_region() -> None:
    profile = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0"
    foundation = "arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/amazon.nova-lite-v1:0"

    assert from_arn(profile) == ModelName("us.amazon.nova-lite-v1:0", "us-east-1")
    assert from_arn(foundation) == ModelName("amazon.nova-lite-v1:0", "us-gov-west-1")


def test_an_application_inference_profile_names_no_model() -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3"

    assert from_arn(arn).is_opaque
    assert [candidate.key for candidate in candidates(arn, "aws.bedrock", None)] == [arn]


def test_a_fine_tuned_model_keeps_its_mark() -> None:
    assert fine_tuned_base("ft:gpt-4o-mini-2024-07-18:acme::x1y2") == "ft:gpt-4o-mini-2024-07-18"
    assert fine_tuned_base("ft:gpt-4o-mini-2024-07-18") == "ft:gpt-4o-mini-2024-07-18"
    assert fine_tuned_base("gpt-4o-mini") == "gpt-4o-mini"


@pytest.mark.parametrize(
    ("name", "provider", "split"),
    [
        ("eu/gpt-4o", "azure.ai.openai", ("eu", "gpt-4o")),
        ("global-standard/gpt-4o", "azure.ai.openai", ("global-standard", "gpt-4o")),
        ("high/1024-x-1024/gpt-image-1", "azure.ai.openai", (None, "high/1024-x-1024/gpt-image-1")),
        ("us.amazon.nova-lite-v1:0", "aws.bedrock", ("us", "amazon.nova-lite-v1:0")),
        ("us-gov.xai.grok-4.6", "aws.bedrock", ("us-gov", "xai.grok-4.6")),
        ("ap-northeast-1/anthropic.claude-v2:1", "aws.bedrock", ("ap-northeast-1", "anthropic.claude-v2:1")),
        ("anthropic.claude-v2:1", "aws.bedrock", (None, "anthropic.claude-v2:1")),
        ("eu/gpt-4o", "openai", (None, "eu/gpt-4o")),
    ],
)
def test_a_region_is_split_off_where_the_provider_writes_it(
    name: str, provider: str, split: tuple[str | None, str]
) -> None:
    assert split_region(name, provider) == split


def test_a_region_is_put_where_the_price_list_has_it() -> None:
    assert with_region("gpt-4o", "eu", "azure.ai.openai") == "eu/gpt-4o"
    assert with_region("gpt-4o", "swedencentral", "azure.ai.openai") is None
    assert with_region("amazon.nova-lite-v1:0", "eu", "aws.bedrock") == "eu.amazon.nova-lite-v1:0"
    assert with_region("amazon.nova-lite-v1:0", "eu-west-1", "aws.bedrock") == "eu-west-1/amazon.nova-lite-v1:0"
    assert with_region("gpt-4o", "eu", "openai") is None


def test_version_tags_are_dropped_one_by_one() -> None:
    assert without_version_tags("amazon.nova-pro-v1:0:24k", "aws.bedrock") == [
        "amazon.nova-pro-v1:0",
        "amazon.nova-pro-v1",
        "amazon.nova-pro",
    ]
    assert without_version_tags("codestral-2@001", "gcp.vertex_ai") == ["codestral-2"]
    assert without_version_tags("claude-opus-4-5@20251101", "gcp.vertex_ai") == []
    assert without_version_tags("llama3:70b", "ollama") == []


@pytest.mark.parametrize(
    ("name", "undated"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-opus-4-5@20251101", "claude-opus-4-5"),
        ("gpt-4-0613", None),
        ("mistral-large-2411", None),
        ("gpt-4o-2024-13-06", None),
        ("model-19991231", None),
        ("gpt-4o-mini", None),
    ],
)
def test_a_date_is_a_whole_date_at_the_end(name: str, undated: str | None) -> None:
    assert without_date(name) == undated


@pytest.mark.parametrize("suffix", ["mini", "nano", "lite", "pro", "flash", "latest", "preview", "turbo", "32k"])
def test_a_suffix_is_never_dropped(suffix: str) -> None:
    for provider in ("openai", "aws.bedrock", "gcp.vertex_ai", "azure.ai.openai"):
        assert [candidate.key for candidate in candidates(f"gpt-4-{suffix}", provider, None)] == [f"gpt-4-{suffix}"]


def test_candidates_come_in_their_order_with_the_rule_that_made_them() -> None:
    listed = candidates("azure/gpt-5.1", "azure.ai.openai", "EU")

    assert [(one.key, one.rule) for one in listed] == [
        ("eu/gpt-5.1", "with_region"),
        ("azure/gpt-5.1", "exact"),
        ("gpt-5.1", "without_prefix"),
    ]


def test_a_geo_profile_is_tried_whole_before_its_parts() -> None:
    listed = candidates("us.anthropic.claude-opus-4-5-20251101-v1:0", "aws.bedrock", None)

    assert [(one.key, one.rule) for one in listed] == [
        ("us.anthropic.claude-opus-4-5-20251101-v1:0", "exact"),
        ("anthropic.claude-opus-4-5-20251101-v1:0", "without_region"),
        ("us.anthropic.claude-opus-4-5-20251101-v1", "without_version"),
        ("us.anthropic.claude-opus-4-5-20251101", "without_version"),
        ("anthropic.claude-opus-4-5-20251101-v1", "without_version"),
        ("anthropic.claude-opus-4-5-20251101", "without_version"),
    ]
