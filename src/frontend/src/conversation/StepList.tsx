import { Code, Wrench } from "lucide-react";
import { lazy, Suspense } from "react";
import { useSelection } from "@/shell/selection";
import { setInspector } from "@/shell/ui";
import { StatusIcon } from "@/ui/StatusIcon";
import { duration, plural } from "@/workspace/format";
import type { CellView, RunView, TurnView, Workbench } from "@/workspace/state";

const Thought = lazy(() => import("@/thoughts/Thought"));

const row =
  "flex w-full min-w-0 items-center gap-2 rounded-sm px-1.5 py-0.5 text-left text-xs hover:bg-sunken";

function firstLine(code: string): string {
  return code.split("\n").find((line) => line.trim() && !line.trim().startsWith("#")) ?? code;
}

function CellStep(props: { bench: Workbench; run: RunView; cell: CellView; onOpen: () => void }) {
  const { bench, run, cell } = props;
  const spawned = run.children.filter((id) => bench.runs[id]?.site?.cell === cell.id).length;
  return (
    <button type="button" className={row} onClick={props.onOpen}>
      <StatusIcon status={cell.status} size={12} />
      <Code size={12} className="shrink-0 text-muted" aria-hidden="true" />
      <code className="min-w-0 flex-1 truncate font-mono text-2xs">{firstLine(cell.code.head)}</code>
      {spawned > 0 && <span className="shrink-0 text-muted">{plural(spawned, "sub-run")}</span>}
      <span className="shrink-0 text-muted tabular">{cell.ms === null ? "…" : duration(cell.ms)}</span>
    </button>
  );
}

/** What the root run did, in order, before the answer: never the answer above its reasoning. */
export function StepList({ bench, turn }: { bench: Workbench; turn: TurnView }) {
  const [, select] = useSelection();
  const root = bench.runs[turn.runs[0] ?? ""];
  if (!root) return null;
  const show = (cell: string | undefined) => {
    select({ turn: turn.id, run: root.id, cell, tab: cell ? "cells" : "overview" });
    setInspector(true);
  };
  const thoughts = root.reasoning.flatMap((id) => bench.messages[id] ?? []);
  const steps = root.steps.filter((step) => step.kind === "cell" || step.kind === "tool");
  return (
    <ol className="mb-1 ml-2 border-l border-line pl-2.5" aria-label="Steps">
      {thoughts.map((thought) => (
        <li key={thought.id}>
          <Suspense>
            <Thought thought={thought} />
          </Suspense>
        </li>
      ))}
      {steps.length === 0 && thoughts.length === 0 && (
        <li className="px-1.5 py-0.5 text-xs text-muted">
          {turn.status === "running"
            ? "The first step appears in a moment."
            : "No code was run for this answer."}
        </li>
      )}
      {steps.map((step) => {
        const cell = bench.cells[step.id];
        if (step.kind === "cell" && cell) {
          return (
            <li key={step.id}>
              <CellStep bench={bench} run={root} cell={cell} onOpen={() => show(cell.id)} />
            </li>
          );
        }
        const tool = bench.tools[step.id];
        if (!tool) return null;
        return (
          <li key={step.id}>
            <button type="button" className={row} onClick={() => show(undefined)}>
              <StatusIcon status={tool.status} size={12} />
              <Wrench size={12} className="shrink-0 text-muted" aria-hidden="true" />
              <span className="font-mono text-2xs">{tool.name}</span>
              <code className="min-w-0 flex-1 truncate font-mono text-2xs text-muted">
                {tool.arguments.head}
              </code>
              {tool.replayed && <span className="shrink-0 text-muted">from the journal</span>}
              <span className="shrink-0 text-muted tabular">
                {tool.ms === null ? "…" : duration(tool.ms)}
              </span>
            </button>
          </li>
        );
      })}
    </ol>
  );
}
