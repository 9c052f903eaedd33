import { useState } from "react";
import type { Suggestion } from "@/api/types";
import { Button } from "@/ui/Button";
import { Field, inputLook } from "@/ui/Field";
import { PROVIDERS, providerOfKey } from "./providers";
import type { SetupForm } from "./SetupCard";

export function KeyForm({ busy, onUse, found }: SetupForm & { found: Suggestion[] }) {
  const [provider, setProvider] = useState(PROVIDERS[0]);
  const [key, setKey] = useState("");
  const [model, setModel] = useState(PROVIDERS[0]?.model ?? "");
  const choose = (prefix: string) => {
    const next = PROVIDERS.find((entry) => entry.prefix === prefix);
    if (!next) return;
    setProvider(next);
    setModel(next.model);
  };
  const typed = (value: string) => {
    setKey(value);
    const guess = providerOfKey(value.trim());
    if (guess && guess.prefix !== provider?.prefix) choose(guess.prefix);
  };
  const env = found.filter((entry) => entry.kind === "env" && entry.ready);
  return (
    <form
      className="mt-3 border-t pt-3"
      onSubmit={(event) => {
        event.preventDefault();
        onUse({ model: model.trim(), api_key: key.trim() });
      }}
    >
      {env.length > 0 && (
        <div className="mb-3 flex flex-wrap items-center gap-2">
          <span className="text-sm text-muted">Found in the environment:</span>
          {env.map((entry) => (
            <Button
              key={entry.model}
              disabled={busy}
              onClick={() => onUse({ model: entry.model, api_base: entry.api_base })}
            >
              {entry.label}
            </Button>
          ))}
        </div>
      )}
      <div className="grid grid-cols-1 gap-3 sm:grid-cols-[150px_1fr]">
        <label className="block">
          <span className="mb-1 block text-sm font-medium">Provider</span>
          <select
            className={inputLook}
            value={provider?.prefix}
            onChange={(event) => choose(event.target.value)}
          >
            {PROVIDERS.map((entry) => (
              <option key={entry.prefix} value={entry.prefix}>
                {entry.name}
              </option>
            ))}
          </select>
        </label>
        <Field label="Model" value={model} onChange={(event) => setModel(event.target.value)} />
      </div>
      <Field
        className="mt-3"
        label="API key"
        note={`or start with ${provider?.variable} set`}
        type="password"
        value={key}
        onChange={(event) => typed(event.target.value)}
      />
      <div className="mt-3 flex flex-wrap items-center gap-3">
        <Button type="submit" look="primary" disabled={busy || !key.trim() || !model.trim()}>
          {busy ? "Testing" : "Test and use"}
        </Button>
        <span className="text-xs text-muted">
          Stored on this machine, readable by you only. It is never shown again.
        </span>
      </div>
    </form>
  );
}
