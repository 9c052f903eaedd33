import { beforeAll, describe, expect, it } from "vitest";
import { treeKey } from "../src/tree/keys";
import { matching } from "../src/tree/useRows";
import { reduce } from "../src/workspace/reducer";
import { emptyWorkbench, type RunView, type TurnView, type Workbench } from "../src/workspace/state";
import { FOLD_ABOVE, flatten, groupFacts, liveUsage } from "../src/workspace/tree";
import { plays, wideEvents } from "./journals";

const turnOf = (bench: Workbench) => Object.values(bench.turns)[0] as TurnView;

/** A chain of runs, each the only child of the one before. */
function chain(length: number): Workbench {
  const bench = emptyWorkbench("ses");
  const ids = Array.from({ length }, (_, i) => `run_${i}`);
  bench.turns.t = { id: "t", runs: ids } as unknown as TurnView;
  for (const [i, id] of ids.entries()) {
    const children = i + 1 < length ? [`run_${i + 1}`] : [];
    bench.runs[id] = {
      id,
      turn: "t",
      parent: i ? `run_${i - 1}` : null,
      children,
      task: id,
      site: null,
    } as unknown as RunView;
  }
  return bench;
}

describe("tree", () => {
  let small: Workbench;
  let wide: Workbench;
  beforeAll(async () => {
    const search = (await plays())[0];
    small = reduce(emptyWorkbench("ses_search"), search?.events ?? []);
    wide = reduce(emptyWorkbench("ses_wide"), await wideEvents(600));
  });

  it("shows a row per run in order of arrival", () => {
    const { rows } = flatten(small, turnOf(small).id, {});
    expect(rows.map((row) => row.id)).toEqual(turnOf(small).runs);
  });

  it("folds more than 25 siblings of a call site and opens them on request", () => {
    const turn = turnOf(wide);
    const { rows } = flatten(wide, turn.id, {});
    const groups = rows.filter((row) => row.kind === "group");
    expect(groups).toHaveLength(5);
    const first = groups[0];
    if (first?.kind !== "group") throw new Error("no group");
    expect(first.members.length).toBeGreaterThan(FOLD_ABOVE);
    const opened = flatten(wide, turn.id, { [first.id]: true });
    expect(opened.rows).toHaveLength(rows.length + first.members.length);
    const facts = groupFacts(first.members);
    expect(facts.ok + facts.failed).toBe(120);
    expect(facts.p95 ?? 0).toBeGreaterThanOrEqual(facts.p50 ?? 0);
  });

  it("survives a depth of 20,000", () => {
    const bench = chain(20_000);
    const open = Object.fromEntries(Object.keys(bench.runs).map((id) => [id, true]));
    expect(flatten(bench, "t", open).rows).toHaveLength(20_000);
  });

  it("shows a run whose parent is unknown instead of hiding it", () => {
    const bench = chain(2);
    (bench.runs.run_1 as RunView).parent = "run_missing";
    (bench.runs.run_0 as RunView).children = [];
    const { rows, unattached } = flatten(bench, "t", {});
    expect(rows.map((row) => row.id)).toEqual(["run_0", "run_1"]);
    expect(unattached).toBe(1);
  });

  it("finds runs with everything above them", () => {
    const turn = turnOf(small);
    const match = matching(small, turn, "locks.py", "all");
    expect(match?.hits).toHaveLength(1);
    expect(match?.keep.has(turn.runs[0] ?? "")).toBe(true);
    expect(matching(small, turn, "", "all")).toBeNull();
  });

  it("sums usage over a running tree and takes the rolled-up numbers of a finished one", () => {
    const turn = turnOf(small);
    const all = liveUsage(small, turn.runs[0] ?? "");
    expect(all.calls).toBe(27);
    const root = small.runs[turn.runs[0] ?? ""] as RunView;
    const own = root.steps.filter((step) => step.kind === "call").length;
    const open: Workbench = {
      ...small,
      runs: { ...small.runs, [root.id]: { ...root, status: "running", usage: { calls: own } } },
    };
    expect(liveUsage(open, root.id).calls).toBe(27);
  });

  it("moves as a WAI-ARIA tree does", () => {
    const { rows } = flatten(small, turnOf(small).id, {});
    const [root, first, second] = rows.map((row) => row.id);
    expect(treeKey("ArrowDown", rows, root ?? null)?.focus).toBe(first);
    expect(treeKey("ArrowRight", rows, root ?? null)?.focus).toBe(first);
    expect(treeKey("ArrowLeft", rows, second ?? null)?.focus).toBe(root);
    expect(treeKey("ArrowLeft", rows, root ?? null)?.opened).toEqual({ [root ?? ""]: false });
    expect(treeKey("End", rows, root ?? null)?.focus).toBe(rows.at(-1)?.id);
    expect(treeKey("Home", rows, second ?? null)?.focus).toBe(root);
    expect(treeKey("Enter", rows, first ?? null)?.select).toBe(first);
    expect(treeKey("q", rows, root ?? null)?.focus).toBe(first);
    expect(treeKey("Tab", rows, root ?? null)).toBeNull();
  });
});
