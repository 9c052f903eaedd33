"""Which prefixes a model string may have, and what each needs."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Final

DEMO_MODEL: Final = "demo/search"
DEMO_LABEL: Final = "Demo search program (no AI model)"


@dataclass(frozen=True, slots=True)
class Provider:
    """One prefix of model strings.

    `keys`: variables that may hold its key, first match wins; empty = none needed or found by other means.
    `example`: a model of it that DSPy's own catalogue knows, offered as the first choice.
    `address`: base address of an OpenAI-compatible server; set only for servers of the person's own.
    """

    prefix: str
    name: str
    keys: tuple[str, ...] = ()
    example: str | None = None
    address: str | None = None


PROVIDERS: Final = {
    provider.prefix: provider
    for provider in (
        Provider("openai", "OpenAI", ("OPENAI_API_KEY",), "openai/gpt-5-mini"),
        Provider("anthropic", "Anthropic", ("ANTHROPIC_API_KEY",), "anthropic/claude-sonnet-4-5"),
        Provider("gemini", "Google Gemini", ("GEMINI_API_KEY", "GOOGLE_API_KEY"), "gemini/gemini-2.5-flash"),
        Provider("openrouter", "OpenRouter", ("OPENROUTER_API_KEY",), "openrouter/openai/gpt-5-mini"),
        Provider("groq", "Groq", ("GROQ_API_KEY",), "groq/llama-3.3-70b-versatile"),
        Provider("deepseek", "DeepSeek", ("DEEPSEEK_API_KEY",), "deepseek/deepseek-chat"),
        Provider("xai", "xAI", ("XAI_API_KEY",), "xai/grok-4"),
        Provider("mistral", "Mistral", ("MISTRAL_API_KEY",), "mistral/mistral-small-latest"),
        Provider("together_ai", "Together AI", ("TOGETHERAI_API_KEY",)),
        Provider("fireworks_ai", "Fireworks AI", ("FIREWORKS_AI_API_KEY",)),
        Provider("azure", "Azure OpenAI", ("AZURE_API_KEY",)),
        Provider("ollama_chat", "Ollama", address="http://127.0.0.1:11434/v1"),
        Provider("lm_studio", "LM Studio", address="http://127.0.0.1:1234/v1"),
        Provider("llama_cpp", "llama.cpp", address="http://127.0.0.1:8080/v1"),
        Provider("hosted_vllm", "vLLM", address="http://127.0.0.1:8000/v1"),
        Provider("bedrock", "Amazon Bedrock"),
        Provider("vertex_ai", "Google Vertex AI"),
        Provider("cohere", "Cohere"),
        Provider("perplexity", "Perplexity"),
        Provider("cerebras", "Cerebras"),
        Provider("nvidia_nim", "NVIDIA NIM"),
        Provider("moonshot", "Moonshot AI"),
        Provider("huggingface", "Hugging Face"),
        Provider("replicate", "Replicate"),
        Provider("databricks", "Databricks"),
        Provider("sambanova", "SambaNova"),
        Provider("watsonx", "IBM watsonx"),
    )
}


def nearest(prefix: str) -> str | None:
    """The known prefix that looks most like this one, or None."""
    close = difflib.get_close_matches(prefix, [*PROVIDERS, "demo"], n=1)
    return close[0] if close else None
