import { percentile } from "./format";
import type { RunView, Status, Workbench } from "./state";

export const FOLD_ABOVE = 25;

export interface Tally {
  total: number;
  ok: number;
  running: number;
  failed: number;
}

export interface GroupRow {
  kind: "group";
  id: string;
  depth: number;
  parent: string;
  name: string;
  members: RunView[];
  expanded: boolean;
}

export interface RunRow {
  kind: "run";
  id: string;
  depth: number;
  parent: string | null;
  run: RunView;
  childCount: number;
  expanded: boolean;
  /** Position among its siblings, for aria-posinset and aria-setsize. */
  position: number;
  siblings: number;
}

export type Row = GroupRow | RunRow;

export interface TreeView {
  rows: Row[];
  /** Runs whose parent the journal has not announced. */
  unattached: number;
}

/** What the person opened or closed by hand; rows follow their default otherwise. */
export type Opened = Readonly<Record<string, boolean>>;

const DEFAULT_DEPTH = 2;

export function groupKey(run: RunView): string | null {
  const site = run.site;
  return site && run.parent ? `${run.parent}/${site.cell ?? ""}/${site.function}` : null;
}

interface Entry {
  run: RunView;
  depth: number;
  parent: string | null;
  position: number;
  siblings: number;
}

/** The siblings in order of arrival, with wide call sites folded into one entry. */
function arrange(runs: RunView[], parent: string, depth: number, opened: Opened): (Entry | GroupRow)[] {
  const sizes = new Map<string, number>();
  for (const run of runs) {
    const key = groupKey(run);
    if (key) sizes.set(key, (sizes.get(key) ?? 0) + 1);
  }
  const groups = new Map<string, GroupRow>();
  const out: (Entry | GroupRow)[] = [];
  for (const [index, run] of runs.entries()) {
    const key = groupKey(run);
    if (key && (sizes.get(key) ?? 0) > FOLD_ABOVE) {
      const group = groups.get(key);
      if (group) group.members.push(run);
      else {
        const id = `group:${key}`;
        const made: GroupRow = {
          kind: "group",
          id,
          depth,
          parent,
          name: run.site?.function ?? "calls",
          members: [run],
          expanded: opened[id] ?? false,
        };
        groups.set(key, made);
        out.push(made);
      }
    } else out.push({ run, depth, parent, position: index + 1, siblings: runs.length });
  }
  return out;
}

/** Flat rows of a turn's tree, built without recursion: 5,000 runs or a depth of 5,000 are the same to it. */
export function flatten(bench: Workbench, turn: string, opened: Opened): TreeView {
  const view = bench.turns[turn];
  if (!view) return { rows: [], unattached: 0 };
  const all = view.runs.flatMap((id) => bench.runs[id] ?? []);
  const roots = all.filter((run) => !run.parent || !bench.runs[run.parent]);
  const rows: Row[] = [];
  const stack: (Entry | GroupRow)[] = roots
    .map((run, i) => ({ run, depth: 0, parent: null, position: i + 1, siblings: roots.length }))
    .reverse();
  while (stack.length) {
    const entry = stack.pop();
    if (!entry) break;
    if ("kind" in entry) {
      rows.push(entry);
      if (entry.expanded) pushMembers(stack, entry);
      continue;
    }
    const { run } = entry;
    const expanded = run.children.length > 0 && (opened[run.id] ?? entry.depth < DEFAULT_DEPTH);
    rows.push({ kind: "run", id: run.id, childCount: run.children.length, expanded, ...entry });
    if (!expanded) continue;
    const children = run.children.flatMap((id) => bench.runs[id] ?? []);
    stack.push(...arrange(children, run.id, entry.depth + 1, opened).reverse());
  }
  return { rows, unattached: roots.filter((run) => run.parent).length };
}

function pushMembers(stack: (Entry | GroupRow)[], group: GroupRow): void {
  for (let i = group.members.length - 1; i >= 0; i -= 1) {
    const run = group.members[i];
    if (!run) continue;
    stack.push({
      run,
      depth: group.depth + 1,
      parent: group.id,
      position: i + 1,
      siblings: group.members.length,
    });
  }
}

/** What has to be open for a run's row to exist. */
export function ancestors(bench: Workbench, id: string): string[] {
  const out: string[] = [];
  let run = bench.runs[id];
  for (let hops = 0; run && hops < 10_000; hops += 1) {
    const key = groupKey(run);
    if (key) out.push(`group:${key}`);
    if (!run.parent) break;
    out.push(run.parent);
    run = bench.runs[run.parent];
  }
  return out;
}

export function isFailure(status: Status): boolean {
  return status === "failed" || status === "interrupted";
}

export function tally(runs: readonly RunView[]): Tally {
  const out: Tally = { total: runs.length, ok: 0, running: 0, failed: 0 };
  for (const run of runs) {
    if (run.status === "ok") out.ok += 1;
    else if (run.status === "running") out.running += 1;
    else if (isFailure(run.status)) out.failed += 1;
  }
  return out;
}

export interface GroupFacts extends Tally {
  p50: number | null;
  p95: number | null;
  cost: number | null;
  tokens: number;
}

export function groupFacts(members: readonly RunView[]): GroupFacts {
  const times = members
    .flatMap((run) => (run.finished_ts === null ? [] : [run.finished_ts - run.started_ts]))
    .sort((a, b) => a - b);
  let money: number | null = 0;
  let tokens = 0;
  for (const { usage } of members) {
    if (usage.calls) money = money === null || usage.cost_usd == null ? null : money + usage.cost_usd;
    tokens += (usage.prompt_tokens ?? 0) + (usage.completion_tokens ?? 0);
  }
  return {
    ...tally(members),
    p50: times.length ? percentile(times, 0.5) : null,
    p95: times.length ? percentile(times, 0.95) : null,
    cost: money,
    tokens,
  };
}

/** Usage of a run and everything below it, also while it runs (the journal rolls it up at the end only). */
export function liveUsage(
  bench: Workbench,
  id: string,
): { calls: number; tokens: number; cost: number | null } {
  const out: { calls: number; tokens: number; cost: number | null } = { calls: 0, tokens: 0, cost: 0 };
  const stack = [id];
  while (stack.length) {
    const run = bench.runs[stack.pop() ?? ""];
    if (!run) continue;
    const calls = run.usage.calls ?? 0;
    out.calls += calls;
    out.tokens += (run.usage.prompt_tokens ?? 0) + (run.usage.completion_tokens ?? 0);
    if (calls)
      out.cost = out.cost === null || run.usage.cost_usd == null ? null : out.cost + run.usage.cost_usd;
    if (run.status === "running") stack.push(...run.children);
  }
  return out;
}

/** Whether the cells are ours to change: a sub-agent that model-written code built has its own way with them. */
export function hasOwnCells(run: RunView): boolean {
  return run.signature !== "dspy.RLM";
}

/** The newest cell that a fork could begin at. */
export function lastCell(run: RunView): string | undefined {
  return hasOwnCells(run) ? run.steps.findLast((step) => step.kind === "cell")?.id : undefined;
}
