import { useState } from "react";
import type { Suggestion } from "@/api/types";
import { Button } from "@/ui/Button";
import { Field } from "@/ui/Field";
import type { SetupForm } from "./SetupCard";

export function LocalForm({
  busy,
  onUse,
  found,
  loading,
}: SetupForm & { found: Suggestion[]; loading: boolean }) {
  const [base, setBase] = useState("http://127.0.0.1:11434");
  const [model, setModel] = useState("");
  const local = found.filter((entry) => entry.kind === "local");
  return (
    <form
      className="mt-3 border-t pt-3"
      onSubmit={(event) => {
        event.preventDefault();
        onUse({ model: model.trim(), api_base: base.trim() });
      }}
    >
      {local.map((entry) => (
        <div
          key={`${entry.api_base}${entry.model}`}
          className="mb-2 flex items-center gap-3 rounded-md bg-sunken px-3 py-2"
        >
          <div className="min-w-0 flex-1">
            <p className="truncate text-sm font-medium">{entry.label}</p>
            <p className="truncate font-mono text-2xs text-muted">{entry.api_base}</p>
          </div>
          <Button
            look="primary"
            disabled={busy}
            onClick={() => onUse({ model: entry.model, api_base: entry.api_base })}
          >
            {busy ? "Testing" : "Test and use"}
          </Button>
        </div>
      ))}
      {local.length === 0 && (
        <p className="mb-3 text-sm text-muted">
          {loading
            ? "Looking for servers on this machine"
            : "No local server was found on the usual ports. Give its address:"}
        </p>
      )}
      <div className="grid grid-cols-1 gap-3 sm:grid-cols-2">
        <Field label="Address" value={base} onChange={(event) => setBase(event.target.value)} />
        <Field
          label="Model"
          placeholder="ollama_chat/qwen2.5-coder:7b"
          value={model}
          onChange={(event) => setModel(event.target.value)}
        />
      </div>
      <div className="mt-3 flex flex-wrap items-center gap-3">
        <Button
          type="submit"
          look={local.length ? "plain" : "primary"}
          disabled={busy || !model.trim() || !base.trim()}
        >
          {busy ? "Testing" : "Test and use"}
        </Button>
        <span className="text-xs text-muted">
          Small models often fail at recursion; 14B and larger do better.
        </span>
      </div>
    </form>
  );
}
