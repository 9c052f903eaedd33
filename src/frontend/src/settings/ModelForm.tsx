import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { explain } from "@/api/client";
import { putModels, testModels } from "@/api/resources";
import type { ErrorBody, ModelChange, ModelSettings, TestResult } from "@/api/types";
import { Button } from "@/ui/Button";
import { Field } from "@/ui/Field";
import { TestSteps } from "./TestSteps";

interface Values {
  model: string;
  sub_model: string;
  api_base: string;
  api_key: string;
}

const SOURCES: Record<string, string> = {
  file: "from the settings file",
  settings: "from the settings file",
  env: "from the environment",
  environment: "from the environment",
};

function source(name: string | undefined | null): string | undefined {
  return name && name !== "default" ? (SOURCES[name] ?? `from ${name}`) : undefined;
}

/** A value that the environment decides cannot be changed from here. */
function locked(saved: ModelSettings, name: string): boolean {
  return saved.sources[name] === "environment";
}

function start(saved: ModelSettings): Values {
  return {
    model: saved.model ?? "",
    sub_model: saved.sub_model ?? "",
    api_base: saved.api_base ?? "",
    api_key: "",
  };
}

/** Only what differs from the server; an empty field means none. */
export function changed(values: Values, saved: ModelSettings): ModelChange {
  const before = start(saved);
  const out: ModelChange = {};
  for (const name of ["model", "sub_model", "api_base"] as const) {
    if (values[name].trim() !== before[name]) out[name] = values[name].trim() || null;
  }
  if (values.api_key.trim()) out.api_key = values.api_key.trim();
  return out;
}

function keyNote(saved: ModelSettings): string {
  if (!saved.key.set) return "not set";
  return ["set", saved.key.ends && `ends …${saved.key.ends}`, source(saved.key.source)]
    .filter(Boolean)
    .join(" · ");
}

export function ModelForm({ saved }: { saved: ModelSettings }) {
  const [values, setValues] = useState(() => start(saved));
  const [busy, setBusy] = useState<"test" | "save" | null>(null);
  const [result, setResult] = useState<TestResult | null>(null);
  const [problem, setProblem] = useState<ErrorBody | null>(null);
  const client = useQueryClient();
  const change = changed(values, saved);
  const dirty = Object.keys(change).length > 0;
  const set = (name: keyof Values) => (event: { target: { value: string } }) =>
    setValues({ ...values, [name]: event.target.value });
  const run = async (kind: "test" | "save", work: () => Promise<void>) => {
    setBusy(kind);
    setProblem(null);
    try {
      await work();
    } catch (error) {
      setProblem(explain(error));
    }
    setBusy(null);
  };
  const test = () =>
    run("test", async () => {
      setResult(null);
      setResult(
        await testModels({
          model: values.model.trim() || null,
          api_base: values.api_base.trim() || null,
          ...(change.api_key ? { api_key: change.api_key } : {}),
        }),
      );
    });
  const save = (next: ModelChange) =>
    run("save", async () => {
      client.setQueryData(["models"], await putModels(next));
      await client.invalidateQueries({ queryKey: ["status"] });
    });
  return (
    <>
      {saved.suggestions.length > 0 && (
        <section aria-label="Ready to use" className="mt-5">
          <h2 className="text-sm font-semibold">Ready to use</h2>
          <ul className="mt-2 divide-y divide-line rounded-lg border border-line bg-panel">
            {saved.suggestions.map((entry) => {
              const current = saved.model === entry.model && (saved.api_base ?? null) === entry.api_base;
              return (
                <li key={`${entry.model}${entry.api_base}`} className="flex items-center gap-3 px-3 py-2">
                  <div className="min-w-0 flex-1">
                    <p className="truncate">{entry.label}</p>
                    <p className="truncate font-mono text-2xs text-muted">{entry.model}</p>
                  </div>
                  {current ? (
                    <span className="text-xs text-ok">In use</span>
                  ) : (
                    <Button
                      disabled={busy !== null || !entry.ready || locked(saved, "model")}
                      onClick={() => save({ model: entry.model, api_base: entry.api_base })}
                    >
                      Use
                    </Button>
                  )}
                </li>
              );
            })}
          </ul>
        </section>
      )}
      <form
        className="mt-6"
        data-testid="model-form"
        onSubmit={(event) => {
          event.preventDefault();
          void save(change);
        }}
      >
        <h2 className="text-sm font-semibold">Any model</h2>
        <div className="mt-2 space-y-3 rounded-lg border border-line bg-panel p-4">
          <Field
            label="Model"
            note={source(saved.sources.model)}
            placeholder="openai/gpt-5-mini"
            value={values.model}
            disabled={locked(saved, "model")}
            onChange={set("model")}
          />
          <Field
            label="Model of sub-runs"
            note={source(saved.sources.sub_model)}
            placeholder="the same"
            value={values.sub_model}
            disabled={locked(saved, "sub_model")}
            onChange={set("sub_model")}
          />
          <Field
            label="Address of the server"
            note={source(saved.sources.api_base)}
            placeholder="the provider's own"
            value={values.api_base}
            disabled={locked(saved, "api_base")}
            onChange={set("api_base")}
          />
          <Field
            label="API key"
            note={keyNote(saved)}
            type="password"
            placeholder={saved.key.set ? "leave empty to keep it" : ""}
            value={values.api_key}
            disabled={locked(saved, "api_key")}
            onChange={set("api_key")}
          />
          <div className="flex flex-wrap items-center gap-2 pt-1">
            <Button disabled={busy !== null || !values.model.trim()} onClick={test}>
              {busy === "test" ? "Testing" : "Test connection"}
            </Button>
            <span className="flex-1" />
            {dirty && (
              <Button look="quiet" disabled={busy !== null} onClick={() => setValues(start(saved))}>
                Revert
              </Button>
            )}
            <Button type="submit" look="primary" disabled={!dirty || busy !== null}>
              {busy === "save" ? "Saving" : "Save"}
            </Button>
          </div>
        </div>
      </form>
      {problem && (
        <p role="alert" className="mt-3 rounded-md bg-err-soft p-3 text-err">
          {problem.message} {problem.hint}
        </p>
      )}
      {result && (
        <div className="mt-3">
          <TestSteps result={result} />
        </div>
      )}
    </>
  );
}
