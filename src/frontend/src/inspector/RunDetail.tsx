import { lazy, Suspense } from "react";
import { type Tab, useSelection } from "@/shell/selection";
import { RunMenuButton } from "@/tree/RunMenuButton";
import { runName } from "@/tree/TreeRow";
import { StatusIcon, statusWord } from "@/ui/StatusIcon";
import { Tabs } from "@/ui/Tabs";
import { useNow } from "@/ui/useNow";
import { duration } from "@/workspace/format";
import type { RunView, TurnView, Workbench } from "@/workspace/state";
import { CellsTab } from "./CellsTab";

export interface RunProps {
  bench: Workbench;
  turn: TurnView;
  run: RunView;
}

const KIND: Record<RunView["kind"], string> = {
  agent: "Agent",
  rlm: "RLM",
  batch: "Batch",
  direct: "Direct call",
};

const NAMES: [Tab, string][] = [
  ["overview", "Overview"],
  ["cells", "Cells"],
  ["thoughts", "Thoughts"],
  ["prompt", "Prompt"],
  ["output", "Output"],
  ["usage", "Usage"],
  ["raw", "Raw"],
];

const OtherTabs = lazy(() => import("./OtherTabs"));

export function RunDetail(props: RunProps) {
  const { bench, run } = props;
  const [selection, select] = useSelection();
  const running = run.status === "running";
  const now = useNow(running);
  const cells = run.steps.filter((step) => step.kind === "cell").length;
  const worked = run.steps.some((step) => step.kind === "cell" || step.kind === "tool");
  const tab: Tab = selection.tab ?? (worked || running ? "cells" : "overview");
  const box = bench.sandboxes[run.sandbox ?? ""];
  const facts = [
    KIND[run.kind],
    statusWord(run.waiting ? "waiting" : run.status),
    run.replayed ? "from the journal" : null,
    duration((run.finished_ts ?? Math.max(now, run.started_ts)) - run.started_ts),
    run.iteration ? `iteration ${run.iteration}/${run.max_iterations ?? "?"}` : null,
    box?.sandbox ? `sandbox ${box.sandbox.slice(0, 9).replace(/-$/, "")}` : null,
  ];
  const names = NAMES.filter(([name]) => name !== "thoughts" || run.reasoning.length > 0 || tab === name);
  const tabs = names.map(([name, label]) => ({
    name,
    label:
      name === "cells" && cells > 0 ? (
        <>
          {label} <span className="ml-0.5 text-2xs text-muted tabular">{cells}</span>
        </>
      ) : (
        label
      ),
  }));
  return (
    <section aria-label="Run" className="flex min-h-0 flex-1 flex-col bg-panel" data-testid="run-detail">
      <div className="flex shrink-0 items-start gap-2 px-3 pt-2">
        <StatusIcon status={run.waiting ? "waiting" : run.status} size={15} className="mt-0.5" />
        <div className="min-w-0 flex-1">
          <h2 className="truncate text-sm font-semibold" title={run.task}>
            {runName(run)}
          </h2>
          <p className="truncate text-2xs text-muted tabular">{facts.filter(Boolean).join(" · ")}</p>
        </div>
        <RunMenuButton run={run.id} />
      </div>
      <Tabs label="Details of the run" tabs={tabs} value={tab} onChange={(next) => select({ tab: next })}>
        {tab === "cells" ? (
          <CellsTab {...props} />
        ) : (
          <Suspense fallback={<p className="text-sm text-muted">Loading</p>}>
            <OtherTabs tab={tab} {...props} />
          </Suspense>
        )}
      </Tabs>
    </section>
  );
}
