import { useMemo } from "react";
import type { TurnView, Workbench } from "@/workspace/state";
import {
  ancestors,
  flatten,
  isFailure,
  liveUsage,
  type Opened,
  type RunRow,
  type TreeView,
} from "@/workspace/tree";
import type { RowNumbers, Scale } from "./TreeRow";

export type Filter = "all" | "running" | "failed";

/** The runs that match and everything above them; null when nothing is filtered. */
export function matching(
  bench: Workbench,
  turn: TurnView,
  query: string,
  filter: Filter,
): { keep: Set<string>; hits: string[] } | null {
  const words = query.trim().toLowerCase();
  if (!words && filter === "all") return null;
  const keep = new Set<string>();
  const hits: string[] = [];
  for (const id of turn.runs) {
    const run = bench.runs[id];
    if (!run) continue;
    if (filter === "running" && run.status !== "running") continue;
    if (filter === "failed" && !isFailure(run.status)) continue;
    if (words && !`${run.task} ${run.model} ${run.id}`.toLowerCase().includes(words)) continue;
    hits.push(id);
    keep.add(id);
    for (const above of ancestors(bench, id)) keep.add(above);
  }
  return { keep, hits };
}

export function useRows(
  bench: Workbench,
  turn: TurnView,
  opened: Opened,
  query: string,
  filter: Filter,
): TreeView & { hits: string[] | null } {
  return useMemo(() => {
    const match = matching(bench, turn, query, filter);
    if (!match) return { ...flatten(bench, turn.id, opened), hits: null };
    const forced: Record<string, boolean> = { ...opened };
    for (const id of match.keep) forced[id] = true;
    const view = flatten(bench, turn.id, forced);
    return { ...view, rows: view.rows.filter((row) => match.keep.has(row.id)), hits: match.hits };
  }, [bench, turn, opened, query, filter]);
}

export function numbersOf(bench: Workbench, row: RunRow, now: number): RowNumbers {
  const usage = liveUsage(bench, row.id);
  let childrenRunning = 0;
  let childrenFailed = 0;
  for (const id of row.run.children) {
    const status = bench.runs[id]?.status;
    if (status === "running") childrenRunning += 1;
    else if (status === "failed" || status === "interrupted") childrenFailed += 1;
  }
  const parent = bench.runs[row.run.parent ?? ""];
  const time = (run: { started_ts: number; finished_ts: number | null }) =>
    (run.finished_ts ?? now) - run.started_ts;
  const share = parent ? time(row.run) / Math.max(1, time(parent)) : 0;
  return {
    tokens: usage.tokens,
    cost: usage.cost,
    calls: usage.calls,
    share,
    childrenRunning,
    childrenFailed,
  };
}

export function scaleOf(turn: TurnView, now: number): Scale {
  return { start: turn.ts, end: turn.finished_ts ?? Math.max(now, turn.ts + 1_000) };
}
