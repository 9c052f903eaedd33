import { clsx } from "clsx";
import { ChevronRight } from "lucide-react";
import { memo, type SyntheticEvent } from "react";
import { StatusIcon, statusWord } from "@/ui/StatusIcon";
import { compact, cost, duration, number } from "@/workspace/format";
import type { RunView } from "@/workspace/state";
import type { RunRow } from "@/workspace/tree";
import { RunMenuButton } from "./RunMenuButton";

export interface Scale {
  start: number;
  end: number;
}

export interface RowNumbers {
  tokens: number;
  cost: number | null;
  calls: number;
  /** Share of the parent's time, 0 to 1. */
  share: number;
  childrenRunning: number;
  childrenFailed: number;
}

export function runName(run: RunView): string {
  const task = run.task.replace(/\s+/g, " ").trim();
  return task || run.signature;
}

const TONES: Record<RunView["status"], string> = {
  running: "bg-run",
  ok: "bg-[color-mix(in_oklch,var(--accent)_62%,var(--line))]",
  failed: "bg-err",
  limit: "bg-warn",
  interrupted: "bg-warn",
  cancelled: "bg-line-strong",
};

export function TimeBar({
  run,
  scale,
  now,
}: {
  run: { started_ts: number; finished_ts: number | null; status: RunView["status"] };
  scale: Scale;
  now: number;
}) {
  const span = Math.max(1, scale.end - scale.start);
  const end = run.finished_ts ?? Math.max(now, run.started_ts);
  const left = Math.min(99, Math.max(0, ((run.started_ts - scale.start) / span) * 100));
  const width = Math.max(1.5, Math.min(100 - left, ((end - run.started_ts) / span) * 100));
  const tone = TONES[run.status];
  return (
    <span className="relative block h-1.5 w-full overflow-hidden rounded-full bg-sunken" aria-hidden="true">
      <span
        className={clsx("absolute inset-y-0 rounded-full", tone)}
        style={{ left: `${left}%`, width: `${width}%` }}
      />
    </span>
  );
}

/** What happens in the menu of a row, also in its layer, is no matter of the row or the tree. */
export function ofMenu(event: SyntheticEvent): boolean {
  const target = event.target as Element;
  return !event.currentTarget.contains(target) || target.closest("[data-row-menu]") !== null;
}

export const columns =
  "grid grid-cols-[minmax(0,1fr)_44px_52px_52px_72px] items-center gap-2 group-data-[free=true]/pane:grid-cols-[minmax(0,1fr)_44px_52px_72px] group-data-[free=true]/pane:[&>[data-cost]]:hidden @max-[420px]:grid-cols-[minmax(0,1fr)_44px_52px]! @max-[420px]:[&>[data-wide]]:hidden";

interface TreeRowProps {
  row: RunRow;
  numbers: RowNumbers;
  scale: Scale;
  now: number;
  focused: boolean;
  selected: boolean;
  onToggle: (id: string, open: boolean) => void;
  onSelect: (id: string) => void;
}

function Children({ row, numbers }: { row: RunRow; numbers: RowNumbers }) {
  if (!row.childCount) return null;
  const notes = [
    numbers.childrenRunning ? `${number(numbers.childrenRunning)} running` : "",
    numbers.childrenFailed ? `${number(numbers.childrenFailed)} failed` : "",
  ].filter(Boolean);
  return (
    <span className="shrink-0 rounded-sm bg-sunken px-1 text-2xs text-muted tabular">
      {number(row.childCount)}
      {notes.length > 0 && ` (${notes.join(", ")})`}
    </span>
  );
}

export const TreeRow = memo(function TreeRow(props: TreeRowProps) {
  const { row, numbers, now } = props;
  const { run } = row;
  const { site } = run;
  const elapsed = (run.finished_ts ?? Math.max(now, run.started_ts)) - run.started_ts;
  const heavy = numbers.share >= 0.75 && row.depth > 0;
  return (
    <div
      id={`run-${run.id}`}
      role="treeitem"
      tabIndex={-1}
      aria-level={row.depth + 1}
      aria-posinset={row.position}
      aria-setsize={row.siblings}
      aria-selected={props.selected}
      {...(row.childCount ? { "aria-expanded": row.expanded } : {})}
      data-testid="tree-row"
      data-run={run.id}
      data-status={run.status}
      data-depth={run.depth}
      title={`${runName(run).slice(0, 300)}\n${statusWord(run.waiting ? "waiting" : run.status)} · ${run.model}`}
      onClick={(event) => {
        if (!ofMenu(event)) props.onSelect(run.id);
      }}
      onKeyDown={undefined}
      className={clsx(
        columns,
        "group/row relative h-7 cursor-pointer pr-3 pl-2 text-xs outline-none pointer-coarse:h-10",
        props.selected ? "bg-accent-soft" : "hover:bg-sunken",
        props.focused && "group-focus-visible/tree:shadow-[inset_0_0_0_2px_var(--accent)]",
      )}
    >
      <span className="flex min-w-0 items-center gap-1.5" style={{ paddingLeft: row.depth * 14 }}>
        {row.childCount ? (
          <span
            className="inline-flex size-4 shrink-0 items-center justify-center rounded-sm hover:bg-line"
            aria-hidden="true"
            onClick={(event) => {
              event.stopPropagation();
              props.onToggle(run.id, !row.expanded);
            }}
          >
            <ChevronRight size={13} className={clsx("text-muted", row.expanded && "rotate-90")} />
          </span>
        ) : (
          <span className="w-4 shrink-0" />
        )}
        <StatusIcon status={run.waiting ? "waiting" : run.status} size={13} />
        {site && (site.of ?? 1) > 1 && (
          <span
            className="shrink-0 text-right text-2xs text-muted tabular"
            style={{ minWidth: `${String(site.of).length}ch` }}
          >
            {(site.index ?? 0) + 1}
          </span>
        )}
        <span className="min-w-0 truncate">{runName(run)}</span>
        <Children row={row} numbers={numbers} />
        {run.iteration > 0 && run.status !== "ok" && (
          <span className="shrink-0 text-2xs text-muted tabular" title="Iteration">
            it {run.iteration}
            {run.max_iterations ? `/${run.max_iterations}` : ""}
          </span>
        )}
      </span>
      <span className="text-right text-muted tabular">{numbers.calls ? compact(numbers.tokens) : ""}</span>
      <span
        data-wide
        data-cost
        className="truncate text-right text-muted tabular"
        title={numbers.calls && numbers.cost === null ? "The price of this model is unknown" : undefined}
      >
        {numbers.calls ? (numbers.cost === null ? "–" : cost(numbers.cost)) : ""}
      </span>
      <span className={clsx("text-right tabular", heavy ? "font-medium text-text" : "text-muted")}>
        {elapsed < 1 && run.status === "running" ? "…" : duration(elapsed)}
      </span>
      <span data-wide>
        <TimeBar run={run} scale={props.scale} now={now} />
      </span>
      <span className="absolute inset-y-0 right-1 flex items-center opacity-0 group-hover/row:opacity-100 focus-within:opacity-100 has-[[data-state=open]]:opacity-100 pointer-coarse:hidden">
        <RunMenuButton run={run.id} />
      </span>
    </div>
  );
});
