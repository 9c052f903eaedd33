import { Wrench } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { useSelection } from "@/shell/selection";
import { Button } from "@/ui/Button";
import { CopyButton } from "@/ui/CopyButton";
import { StatusIcon } from "@/ui/StatusIcon";
import { duration } from "@/workspace/format";
import type { IterationView, ToolView } from "@/workspace/state";
import { BlobText } from "./BlobText";
import { Cell } from "./Cell";
import type { RunProps } from "./RunDetail";

function Divider({ it, copy }: { it: IterationView; copy: string | null }) {
  return (
    <div className="mt-3 mb-1.5 flex min-h-6 items-center gap-2 text-2xs text-muted tabular first:mt-0">
      <span>
        Iteration {it.n} of {it.limit}
      </span>
      <span className="h-px flex-1 bg-line" />
      {/* Nobody measured an iteration that a dead process left. */}
      {(it.model_ms ?? 0) + (it.sandbox_ms ?? 0) > 0 && (
        <span>
          model {duration(it.model_ms ?? 0)} · sandbox {duration(it.sandbox_ms ?? 0)}
        </span>
      )}
      {copy !== null && <CopyButton text={copy} label="Copy all cells as Python" />}
    </div>
  );
}

function Tool({ tool }: { tool: ToolView }) {
  return (
    <details className="mb-2 rounded-md border border-line">
      <summary className="flex h-8 items-center gap-2 px-2.5 text-xs">
        <StatusIcon status={tool.status} size={13} />
        <Wrench size={12} className="text-muted" aria-hidden="true" />
        <span className="font-mono">{tool.name}</span>
        <span className="ml-auto text-2xs text-muted tabular">
          {tool.replayed && "from the journal · "}
          {tool.ms === null ? "running" : duration(tool.ms)}
        </span>
      </summary>
      <div className="space-y-2 border-t p-2.5">
        <BlobText text={tool.arguments} label="arguments" />
        {tool.result && <BlobText text={tool.result} label="result" />}
        {tool.error && <p className="text-xs text-err">{tool.error.message}</p>}
      </div>
    </details>
  );
}

/** Steps drawn before "show all": a long run stays light. */
const FIRST = 24;

/** The run as a notebook: iterations, each with its cell. */
export function CellsTab({ bench, turn, run }: RunProps) {
  const [{ cell: chosen }] = useSelection();
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (chosen)
      list.current?.querySelector(`[data-cell="${CSS.escape(chosen)}"]`)?.scrollIntoView({ block: "start" });
  }, [chosen]);
  const steps = run.steps.filter((step) => step.kind !== "call");
  const code = steps.flatMap((step) => bench.cells[step.id]?.code.head ?? []).join("\n\n# %%\n");
  const far = steps.findIndex((step) => step.id === chosen) >= FIRST;
  const [all, setAll] = useState(false);
  const shown = all || far ? steps : steps.slice(0, FIRST);
  let n = 0;
  if (!steps.some((step) => step.kind !== "iteration")) {
    return (
      <p className="text-sm text-muted">
        {run.status === "running"
          ? "The first cell appears when the model has written it."
          : run.replayed
            ? "Taken whole from the journal of an earlier turn: no code was run."
            : "No code was run in this run."}
      </p>
    );
  }
  return (
    <div ref={list}>
      {shown.map((step) => {
        const it = bench.iterations[step.id];
        if (step.kind === "iteration")
          return it ? <Divider key={step.id} it={it} copy={step === steps[0] ? code : null} /> : null;
        const tool = bench.tools[step.id];
        if (step.kind === "tool") return tool ? <Tool key={step.id} tool={tool} /> : null;
        const cell = bench.cells[step.id];
        if (!cell) return null;
        n += 1;
        return <Cell key={step.id} n={n} bench={bench} turn={turn} run={run} cell={cell} />;
      })}
      {shown.length < steps.length && (
        <Button className="h-7" onClick={() => setAll(true)}>
          Show all {steps.filter((step) => step.kind === "cell").length} cells
        </Button>
      )}
    </div>
  );
}
