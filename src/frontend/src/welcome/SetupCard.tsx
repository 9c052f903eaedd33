import { useQueryClient } from "@tanstack/react-query";
import { FlaskConical, KeyRound, Server, X } from "lucide-react";
import { type ReactNode, useState } from "react";
import { explain } from "@/api/client";
import { useModels } from "@/api/queries";
import { putModels, testModels } from "@/api/resources";
import type { ErrorBody, ModelChange, TestResult } from "@/api/types";
import { TestSteps } from "@/settings/TestSteps";
import { DEMO_MODEL } from "@/shell/DemoChip";
import { IconButton } from "@/ui/Button";
import { KeyForm } from "./KeyForm";
import { LocalForm } from "./LocalForm";

type Way = "key" | "local" | "demo";

const WAYS: [Way, string, string, ReactNode][] = [
  ["key", "Paste a key", "OpenAI, Anthropic, Gemini and others", <KeyRound key="k" size={16} />],
  ["local", "Use a local server", "Ollama, LM Studio, llama.cpp", <Server key="l" size={16} />],
  ["demo", "Try the demo", "A search program, no AI model", <FlaskConical key="d" size={16} />],
];

export interface SetupForm {
  busy: boolean;
  onUse: (change: ModelChange) => void;
}

/** Three ways to a first answer. The typed question is kept and is sent as soon as one of them works. */
export default function SetupCard({
  heldQuestion,
  onDismiss,
}: {
  heldQuestion?: string;
  onDismiss?: () => void;
}) {
  const [way, setWay] = useState<Way | null>(null);
  const [busy, setBusy] = useState(false);
  const [result, setResult] = useState<TestResult | null>(null);
  const [problem, setProblem] = useState<ErrorBody | null>(null);
  const models = useModels();
  const client = useQueryClient();
  const use = async (change: ModelChange, test: boolean) => {
    setBusy(true);
    setResult(null);
    setProblem(null);
    try {
      const outcome = test ? await testModels(change) : null;
      setResult(outcome);
      if (!outcome || outcome.ok) {
        client.setQueryData(["models"], await putModels(change));
        await client.invalidateQueries({ queryKey: ["status"] });
      }
    } catch (error) {
      setProblem(explain(error));
    }
    setBusy(false);
  };
  const onUse = (change: ModelChange) => void use(change, true);
  const choose = (next: Way) => {
    setWay(next);
    setResult(null);
    setProblem(null);
    if (next === "demo") void use({ model: DEMO_MODEL, api_base: null }, false);
  };
  return (
    <section
      aria-label="Set up a model"
      data-testid="setup-card"
      className="mb-2 animate-in rounded-lg border border-line bg-panel p-4"
    >
      <div className="flex items-start gap-3">
        <div className="min-w-0 flex-1">
          <h2 className="text-base font-semibold">
            {heldQuestion ? "One thing before this can be answered" : "Choose what answers"}
          </h2>
          <p className="text-sm text-muted">
            {heldQuestion
              ? "Your question is kept and sent as soon as a model is set up."
              : "Three ways to a first answer. You can change it at any time in the settings."}
          </p>
        </div>
        {onDismiss && (
          <IconButton label="Not now" onClick={onDismiss}>
            <X size={15} aria-hidden="true" />
          </IconButton>
        )}
      </div>
      <div className="mt-3 grid grid-cols-1 gap-2 sm:grid-cols-3">
        {WAYS.map(([name, title, note, icon]) => (
          <button
            key={name}
            type="button"
            aria-pressed={way === name}
            data-testid={`setup-${name}`}
            disabled={busy}
            onClick={() => choose(name)}
            className="flex items-start gap-2.5 rounded-md border border-line p-2.5 text-left transition-colors hover:border-line-strong hover:bg-sunken aria-pressed:border-accent aria-pressed:bg-accent-soft"
          >
            <span className="mt-0.5 text-accent" aria-hidden="true">
              {icon}
            </span>
            <span>
              <span className="block font-medium">{title}</span>
              <span className="block text-xs text-muted">{note}</span>
            </span>
          </button>
        ))}
      </div>
      {way === "key" && <KeyForm busy={busy} onUse={onUse} found={models.data?.suggestions ?? []} />}
      {way === "local" && (
        <LocalForm
          busy={busy}
          onUse={onUse}
          found={models.data?.suggestions ?? []}
          loading={models.isPending}
        />
      )}
      {result && (
        <div className="mt-3">
          <TestSteps result={result} />
        </div>
      )}
      {problem && (
        <p role="alert" className="mt-3 text-sm text-err">
          {problem.message} {problem.hint}
        </p>
      )}
      {heldQuestion && !busy && (
        <p className="mt-3 truncate border-t pt-2 text-xs text-muted">Kept: “{heldQuestion.trim()}”</p>
      )}
      {busy && way === "demo" && <p className="mt-3 text-sm text-muted">Starting the demo</p>}
    </section>
  );
}
