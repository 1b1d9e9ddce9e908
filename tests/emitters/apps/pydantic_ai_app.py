"""pydantic-ai: an agent over openai, an agent over anthropic, instrumented by itself."""

from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tests.emitters.apps.line import PROVIDER, global_provider

provider = global_provider()
Agent.instrument_all()
chat = OpenAIChatModel("gpt-4o", provider=OpenAIProvider(base_url=f"{PROVIDER}/v1", api_key="sk-test"))
Agent(chat).run_sync("What is the fare?")
claude = AnthropicModel("claude-sonnet-4-5", provider=AnthropicProvider(base_url=PROVIDER, api_key="sk-test"))
Agent(claude).run_sync("What is the fare?")
provider.shutdown()
