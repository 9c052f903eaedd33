import { cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";
import { answerOfKey, yesAndNo } from "../src/approvals/answers";
import { newest } from "../src/artifacts/chips";
import { isNumeric, parseTable, sorted } from "../src/artifacts/csv";
import { kindOf } from "../src/artifacts/KindIcon";
import { forecast, progressOf } from "../src/budget/forecast";
import { LimitsForm } from "../src/budget/LimitsForm";
import { changedLimits, raised } from "../src/budget/limits";
import { DiffText } from "../src/compare/DiffText";
import { diffOf } from "../src/compare/diffs";
import { byPath, depthOf, type RunPair, turnOf } from "../src/compare/shape";
import { coverageOf, heat, subtree, union } from "../src/coverage/coverage";
import { history, undoable } from "../src/memory/memory";
import { parseSpan } from "../src/sources/SpanDialog";
import { lanesOf, ticks } from "../src/timeline/lanes";
import { replayedCalls } from "../src/turns/OriginLine";
import { reduce } from "../src/workspace/reducer";
import type { ArtifactView, Workbench } from "../src/workspace/state";
import { emptyWorkbench } from "../src/workspace/state";
import { engineEvents } from "./journals";

afterEach(cleanup);

async function renewals(): Promise<Workbench> {
  return reduce(emptyWorkbench("ses_renew"), await engineEvents());
}

describe("answers to questions", () => {
  it("knows a yes and a no, and gives the others numbers", () => {
    expect(yesAndNo(["no", "yes"])).toEqual({ yes: "yes", no: "no" });
    expect(yesAndNo(["raise", "finish"])).toEqual({ yes: "raise", no: "finish" });
    expect(yesAndNo(["30 days", "60 days"])).toEqual({ yes: null, no: null });
    expect(yesAndNo(["yes", "yes, always", "no"])).toEqual({ yes: "yes", no: "no" });
    expect(answerOfKey("Y", ["allow", "deny"])).toBe("allow");
    expect(answerOfKey("n", ["allow", "deny"])).toBe("deny");
    expect(answerOfKey("2", ["a", "b"])).toBe("b");
    expect(answerOfKey("3", ["a", "b"])).toBeNull();
    expect(answerOfKey("y", ["a", "b"])).toBeNull();
  });
});

describe("limits", () => {
  const limits = { calls: 20, cost_usd: 1, depth: 2 };
  it("proposes the reached one twice as high and sends only what differs", () => {
    const wanted = raised(limits, "calls");
    expect(changedLimits(limits, wanted)).toEqual({ calls: 40 });
    expect(changedLimits(limits, { ...limits, cost_usd: undefined as never })).toEqual({ cost_usd: null });
    expect(changedLimits(limits, { ...limits, depth: undefined as never })).toEqual({});
    expect(raised(limits, "depth").depth).toBe(3);
    expect(raised(limits, "iterations")).toEqual(limits);
  });
  it("cannot be sent while nothing is different, unless it is to go on as it is", () => {
    const onSubmit = vi.fn();
    const { rerender } = render(
      <LimitsForm label="Limits" limits={limits} submit="Set" onSubmit={onSubmit} />,
    );
    expect(screen.getByRole("button", { name: "Set" })).toHaveProperty("disabled", true);
    fireEvent.change(screen.getByLabelText("Model calls"), { target: { value: "50" } });
    fireEvent.click(screen.getByRole("button", { name: "Set" }));
    expect(onSubmit).toHaveBeenCalledWith({ calls: 50 });
    rerender(<LimitsForm label="Limits" key="2" limits={limits} submit="Go" always onSubmit={onSubmit} />);
    fireEvent.click(screen.getByRole("button", { name: "Go" }));
    expect(onSubmit).toHaveBeenLastCalledWith({});
  });
  it("forecasts from what the announced sub-runs have used", async () => {
    const bench = await renewals();
    const turn = bench.turns[bench.turn_order[0] ?? ""];
    if (!turn) throw new Error("no turn");
    expect(progressOf(bench, turn)).toBeNull();
    // Seven of twelve announced runs are done.
    expect(progressOf(bench, { ...turn, status: "running" })).toBeCloseTo(7 / 12);
    expect(forecast(3, 0.25)).toBe(12);
    expect([forecast(3, null), forecast(null, 0.5), forecast(3, 1)]).toEqual([null, null, null]);
  });
});

describe("coverage", () => {
  it("counts every character once, whoever read it", async () => {
    expect(
      union([
        { start: 5, end: 9 },
        { start: 0, end: 5 },
        { start: 20, end: 30 },
        { start: 22, end: 24 },
      ]),
    ).toEqual([
      { start: 0, end: 9 },
      { start: 20, end: 30 },
    ]);
    const bench = await renewals();
    const turn = bench.turns[bench.turn_order[1] ?? ""];
    if (!turn) throw new Error("no turn");
    const runs = turn.runs.flatMap((id) => bench.runs[id] ?? []);
    const [contracts, rates] = coverageOf(bench, turn, runs);
    expect(contracts?.readers).toBe(12);
    expect(rates).toMatchObject({ read: 121_000, readers: 1, spans: [{ start: 0, end: 121_000 }] });
    const child = runs[1];
    if (!child || !contracts) throw new Error("no child");
    const [own] = coverageOf(bench, turn, subtree(bench, child));
    expect(own?.readers).toBe(1);
    expect(own?.read).toBeLessThan(contracts.read);
  });
  it("spreads a span over the pieces it touches", async () => {
    const bench = await renewals();
    const run = Object.values(bench.runs)[0];
    const context = Object.values(bench.contexts)[0];
    if (!run || !context) throw new Error("no run");
    const reader = { ...run, reads: { [context.sha256]: [{ start: 50, end: 250 }] } };
    expect(heat({ ...context, chars: 400 }, [reader, reader], 4)).toEqual([1, 2, 1, 0]);
  });
  it("reads a span of the URL and refuses what is none", () => {
    expect(parseSpan("0123abcd:5-9")).toEqual({ sha: "0123abcd", start: 5, end: 9 });
    expect([parseSpan("0123abcd:9-5"), parseSpan("../x:1-2"), parseSpan(undefined)]).toEqual([
      null,
      null,
      null,
    ]);
  });
});

describe("artifacts", () => {
  it("reads quoted, empty and broken tables, and sorts numbers as numbers", () => {
    const rows = parseTable('a,b\r\n"x, ""y""",10\n,9\nlast,');
    expect(rows).toEqual([
      ["a", "b"],
      ['x, "y"', "10"],
      [null, "9"],
      ["last", null],
    ]);
    const body = rows.slice(1);
    expect([isNumeric(body, 0), isNumeric(body, 1)]).toEqual([false, true]);
    expect(sorted(body, { column: 1, down: false }).map((row) => row[1])).toEqual(["9", "10", null]);
    expect(sorted(body, { column: 1, down: true }).map((row) => row[1])).toEqual(["10", "9", null]);
    expect(parseTable('a\tb\n"never closed\n1')).toEqual([["a", "b"], ["never closed\n1"]]);
    expect(parseTable("")).toEqual([]);
  });
  it("draws a thing as what it is, and never a picture's markup", () => {
    expect(kindOf("image/svg+xml", "a.svg")).toBe("image");
    expect(kindOf("text/html; charset=utf-8")).toBe("html");
    expect(kindOf("text/plain", "table.csv")).toBe("table");
    expect(kindOf("application/vnd.x+json")).toBe("json");
    expect(kindOf("application/octet-stream")).toBe("binary");
  });
  it("lists the newest version of each name", () => {
    const file = (name: string, version: number) => ({ name, version }) as ArtifactView;
    expect(newest([file("a", 1), file("b", 1), file("a", 2)])).toEqual([file("a", 2), file("b", 1)]);
  });
});

describe("differences", () => {
  it("pairs changed lines by their words and folds what is equal", () => {
    const before = `${Array.from({ length: 20 }, (_, i) => `line ${i}`).join("\n")}\nold words here\n`;
    const rows = diffOf(before, before.replace("old", "new"));
    expect(rows[0]).toMatchObject({ kind: "gap", hidden: 17 });
    expect(rows.at(-2)?.pieces[0]).toEqual({ text: "old", kind: "removed" });
    expect(rows.at(-1)?.pieces[0]).toEqual({ text: "new", kind: "added" });
    expect(diffOf("", "a\nb").map((row) => row.kind)).toEqual(["added", "added"]);
    expect(diffOf("a", "").map((row) => row.kind)).toEqual(["removed"]);
  });
  it("says so when nothing differs", () => {
    render(<DiffText before={"a\n"} after="a" />);
    expect(document.body.textContent).toContain("The same");
  });
  it("orders places as the tree does and finds a turn in a link", () => {
    const pairs = ["0/f.10", "0", "0/f.2", "0/f.2/g.0"].map((path) => ({ path }) as RunPair);
    expect(pairs.sort(byPath).map((pair) => pair.path)).toEqual(["0", "0/f.2", "0/f.2/g.0", "0/f.10"]);
    expect([depthOf("0"), depthOf("0/f.2/g.0")]).toEqual([0, 2]);
    expect(turnOf("http://127.0.0.1:1/s/ses_a?run=x&turn=trn_12")).toBe("trn_12");
    expect([turnOf("trn_123456"), turnOf("not a turn")]).toEqual(["trn_123456", null]);
  });
});

describe("memory", () => {
  it("offers undo for the newest change of a block only", async () => {
    const bench = await renewals();
    const edit = (seq: number, block: string) => ({
      seq,
      ts: 0,
      block,
      before: null,
      after: "x",
      who: "agent" as const,
    });
    const state = { ...bench, memory_edits: [edit(1, "a"), edit(2, "a"), edit(3, "b")] };
    expect(history(state).map((one) => one.seq)).toEqual([3, 2, 1]);
    expect(state.memory_edits.map((one) => undoable(state, one))).toEqual([false, true, true]);
  });
});

describe("time", () => {
  it("lays model and sandbox of a run one after the other, without what came from the journal", async () => {
    const bench = await renewals();
    const turn = bench.turns[bench.turn_order[1] ?? ""];
    const runs = (turn?.runs ?? []).flatMap((id) => bench.runs[id] ?? []);
    const made = runs.at(-1);
    const taken = runs[1];
    if (!turn || !made || !taken) throw new Error("no runs");
    const { model, sandbox } = lanesOf(bench, made, 0);
    expect(model.length).toBeGreaterThan(0);
    expect(model.at(-1)?.end).toBeLessThanOrEqual(sandbox[0]?.start ?? 0);
    for (const segment of [...model, ...sandbox]) {
      expect(segment.start).toBeGreaterThanOrEqual(made.started_ts);
      expect(segment.end).toBeLessThanOrEqual(made.finished_ts ?? 0);
    }
    expect(lanesOf(bench, taken, 0).model).toEqual([]);
    expect(replayedCalls(bench, turn)).toBe(8);
  });
  it("has an axis of round numbers", () => {
    expect(ticks(1_000, 5)).toEqual([0, 200, 400, 600, 800, 1_000]);
    expect(ticks(0, 5)).toEqual([0]);
  });
});
