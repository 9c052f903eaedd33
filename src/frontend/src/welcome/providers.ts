export interface Provider {
  name: string;
  /** DSPy's prefix of the model string. */
  prefix: string;
  model: string;
  /** The environment variable that does the same. */
  variable: string;
}

export const PROVIDERS: Provider[] = [
  { name: "OpenAI", prefix: "openai", model: "openai/gpt-5-mini", variable: "OPENAI_API_KEY" },
  {
    name: "Anthropic",
    prefix: "anthropic",
    model: "anthropic/claude-sonnet-4-5",
    variable: "ANTHROPIC_API_KEY",
  },
  { name: "Google Gemini", prefix: "gemini", model: "gemini/gemini-2.5-flash", variable: "GEMINI_API_KEY" },
  {
    name: "OpenRouter",
    prefix: "openrouter",
    model: "openrouter/openai/gpt-5-mini",
    variable: "OPENROUTER_API_KEY",
  },
];

/** The provider that a key's beginning gives away. */
export function providerOfKey(key: string): Provider | undefined {
  if (key.startsWith("sk-ant-")) return PROVIDERS[1];
  if (key.startsWith("sk-or-")) return PROVIDERS[3];
  if (key.startsWith("AIza")) return PROVIDERS[2];
  return key.startsWith("sk-") ? PROVIDERS[0] : undefined;
}
