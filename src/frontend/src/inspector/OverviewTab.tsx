import { clsx } from "clsx";
import { ContextChips } from "@/conversation/ContextChips";
import { useSelection } from "@/shell/selection";
import { runName } from "@/tree/TreeRow";
import { number } from "@/workspace/format";
import { BlobText } from "./BlobText";
import type { RunProps } from "./RunDetail";
import { Facts, Section } from "./Section";

export function OverviewTab({ bench, turn, run }: RunProps) {
  const [, select] = useSelection();
  const parent = bench.runs[run.parent ?? ""];
  const stopped = run.status === "cancelled";
  const box = bench.sandboxes[run.sandbox ?? ""];
  const rows: [string, React.ReactNode][] = [
    ["Model", run.model],
    [
      "Signature",
      <code key="s" className="font-mono text-2xs">
        {run.signature}
      </code>,
    ],
    ["Depth", String(run.depth)],
    ["Sub-runs", number(run.children.length)],
  ];
  if (run.site)
    rows.push(["Asked by", `${run.site.function}, ${(run.site.index ?? 0) + 1} of ${run.site.of ?? 1}`]);
  if (run.chars !== null) rows.push(["Context size", `${number(run.chars)} characters`]);
  if (box)
    rows.push([
      "Sandbox",
      `${box.provider}, ${box.isolation ?? box.state}${box.ms === null ? "" : `, ready in ${Math.round(box.ms)} ms`}`,
    ]);
  rows.push(["Started", new Date(run.started_ts).toLocaleTimeString()]);
  rows.push([
    "Id",
    <code key="i" className="font-mono text-2xs">
      {run.id}
    </code>,
  ]);
  return (
    <>
      {run.error && (
        <div
          role={stopped ? "note" : "alert"}
          className={clsx("mb-3 rounded-md p-2.5 text-sm", stopped ? "bg-sunken" : "bg-err-soft")}
        >
          <p className="font-medium first-letter:uppercase">{run.error.message}</p>
          {/* What a stopped run advises is for the code that asked for it. */}
          {run.error.hint && !stopped && <p>{run.error.hint}</p>}
        </div>
      )}
      <Section title="Task">
        <p className="text-sm whitespace-pre-wrap [overflow-wrap:anywhere]">{run.task}</p>
      </Section>
      {run.contexts.length > 0 && (
        <Section title="Contexts">
          <ContextChips contexts={run.contexts} />
        </Section>
      )}
      <Section title="Facts">
        <Facts rows={rows} />
        {parent && (
          <button
            type="button"
            className="mt-2 max-w-full truncate text-xs text-accent underline underline-offset-2"
            onClick={() => select({ turn: turn.id, run: parent.id, cell: run.site?.cell ?? undefined })}
          >
            Parent: {runName(parent)}
          </button>
        )}
      </Section>
      {run.output && (
        <Section title="Output">
          <BlobText text={run.output} label="output" />
        </Section>
      )}
    </>
  );
}
