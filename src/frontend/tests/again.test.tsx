import { cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";
import { diffOf as fakeDiff } from "../dev/diff.mjs";
import { Journal } from "../dev/journal.mjs";
import { AtLimit } from "../src/approvals/AtLimit";
import { answerOfKey, yesAndNo } from "../src/approvals/answers";
import { limitsOf } from "../src/budget/inForce";
import { LimitsForm } from "../src/budget/LimitsForm";
import { allLimits } from "../src/budget/limits";
import { type RunPair, type SideRun, textsOf } from "../src/compare/shape";
import type { Limits, TurnStatus, Unit } from "../src/generated/events";
import { resumes } from "../src/turns/resumes";
import { reduce } from "../src/workspace/reducer";
import type { ApprovalView, TurnView, Workbench } from "../src/workspace/state";
import { emptyWorkbench } from "../src/workspace/state";
import { engineEvents } from "./journals";

afterEach(cleanup);

async function renewals(): Promise<Workbench> {
  return reduce(emptyWorkbench("ses_renew"), await engineEvents());
}

function turnWith(more: Partial<TurnView>): TurnView {
  return { id: "trn_a", status: "running", limits: {}, budget: null, limit: null, ...more } as TurnView;
}

function budgetWith(limits: Limits, more: object = {}): TurnView["budget"] {
  const rest = { spent: {}, reserved_calls: 0, children: 0, live_sandboxes: 0, warned: [], exhausted: null };
  return { ...rest, limits, ...more };
}

describe("the choices that the policy gives", () => {
  const choices = ["allow once", "allow for this turn", "deny"];
  it("have the smaller yes and the only no by their keys", () => {
    expect(yesAndNo(choices)).toEqual({ yes: "allow once", no: "deny" });
    expect(answerOfKey("y", choices)).toBe("allow once");
    expect(answerOfKey("n", choices)).toBe("deny");
    expect(answerOfKey("2", choices)).toBe("allow for this turn");
  });
  it("are not guessed at where two of them say no", () => {
    expect(yesAndNo(["yes", "no", "no, never"])).toEqual({ yes: null, no: null });
  });
});

describe("the limits in force", () => {
  it("are the newest told, whatever the turn began with: what is left out is the default, or no limit", () => {
    const limits = { calls: 20, cost_usd: 1, depth: 4, sandboxes: 8 };
    expect(limitsOf(turnWith({ limits }))).toEqual(limits);
    const told = budgetWith({ cost_usd: 2 });
    expect(limitsOf(turnWith({ limits, budget: told }))).toEqual({ cost_usd: 2, depth: 2, sandboxes: 64 });
  });
  it("are all named where a question is asked again, so that no setting takes the place of one", () => {
    expect(allLimits({ calls: 5 })).toEqual({
      calls: 5,
      tokens: null,
      cost_usd: null,
      wall_s: null,
      children: null,
      depth: 2,
      sandboxes: 64,
    });
  });
  it("are proposed higher for the one that the question is about, not for one that is only near", () => {
    const budget = budgetWith({ calls: 14, cost_usd: 0.5 }, { warned: ["calls", "cost"] });
    const turn = turnWith({ limits: { calls: 14, cost_usd: 0.5 }, budget });
    const asked = { kind: "limit", unit: "calls", choices: ["raise", "finish"] } as unknown as ApprovalView;
    render(<AtLimit turn={turn} approval={asked} onAnswer={() => {}} />);
    expect(screen.getByLabelText(/Model calls/)).toHaveProperty("value", "28");
    expect(screen.getByLabelText(/Cost/)).toHaveProperty("value", "0.5");
  });
  it("must be higher where the turn would end at once again", () => {
    const onSubmit = vi.fn();
    const limits = { calls: 14, depth: 2 };
    render(
      <LimitsForm label="x" limits={limits} reached="calls" must submit="Go" always onSubmit={onSubmit} />,
    );
    const button = screen.getByRole("button", { name: "Go" });
    for (const [value, disabled] of [
      ["14", true],
      ["9", true],
      ["15", false],
      ["0", true],
      ["-1", true],
      ["", false],
    ] as const) {
      fireEvent.change(screen.getByLabelText(/Model calls/), { target: { value } });
      expect(button, value).toHaveProperty("disabled", disabled);
    }
  });
  it("never takes a limit away for a number that cannot be one", () => {
    const onSubmit = vi.fn();
    render(
      <LimitsForm label="x" limits={{ calls: 14, cost_usd: 1, depth: 2 }} submit="Go" onSubmit={onSubmit} />,
    );
    for (const [name, value] of [
      [/Model calls/, "0"],
      [/Cost/, "-2"],
    ] as const) {
      const field = screen.getByLabelText(name);
      fireEvent.change(field, { target: { value } });
      expect(field.getAttribute("aria-invalid")).toBe("true");
      fireEvent.submit(screen.getByTestId("limits-form"));
      expect(onSubmit).not.toHaveBeenCalled();
    }
    fireEvent.change(screen.getByLabelText(/Model calls/), { target: { value: "20" } });
    fireEvent.change(screen.getByLabelText(/Cost/), { target: { value: "" } });
    fireEvent.submit(screen.getByTestId("limits-form"));
    expect(onSubmit).toHaveBeenCalledWith({ calls: 20, cost_usd: null });
  });
});

describe("resuming", () => {
  const first = (bench: Workbench) => bench.turns[bench.turn_order[0] ?? ""] as TurnView;
  it("is offered once: not where another turn went on already", async () => {
    const bench = await renewals();
    expect(first(bench).status).toBe("interrupted");
    expect(resumes(bench, first(bench))).toBeNull();
    const alone = { ...bench, turn_order: bench.turn_order.slice(0, 1) };
    expect(resumes(alone, first(bench))).toBe("now");
  });
  it("waits for the turn that runs in the session", async () => {
    const bench = await renewals();
    const [a, b] = bench.turn_order as [string, string];
    const last = { ...(bench.turns[b] as TurnView), origin: null };
    const turns = (status: "running" | "ok") => ({ ...bench.turns, [b]: { ...last, status } });
    expect(resumes({ ...bench, turns: turns("running") }, first(bench))).toBeNull();
    expect(resumes({ ...bench, turns: turns("ok") }, first(bench))).toBe("now");
    expect(bench.turns[a]).toBe(first(bench));
  });
  it("is left to Python where the model was one of its objects", async () => {
    const bench = await renewals();
    const alone = { ...bench, turn_order: bench.turn_order.slice(0, 1) };
    const turn = { ...first(bench), objects: ["sub_model"] as TurnView["objects"] };
    expect(resumes(alone, turn)).toBeNull();
  });
  it("needs a higher limit where the turn met one that is still there", async () => {
    const bench = await renewals();
    const alone = { ...bench, turn_order: bench.turn_order.slice(0, 1) };
    const ended = (status: TurnStatus, limit: Unit | null) => ({ ...first(bench), status, limit });
    expect(resumes(alone, ended("limit", "calls"))).toBe("raised");
    expect(resumes(alone, ended("limit", "cost"))).toBe("raised");
    expect(resumes(alone, ended("limit", "wall"))).toBe("now");
    expect(resumes(alone, ended("limit", "iterations"))).toBe("now");
    expect(resumes(alone, ended("ok", null))).toBeNull();
  });
});

function runWith(more: Partial<SideRun>): SideRun {
  return {
    run: "run_a",
    task: "t",
    kind: "rlm",
    model: "m",
    status: "ok",
    usage: {},
    output: "o",
    cells: [],
    replayed: false,
    ...more,
  };
}

describe("comparing with a run that was taken from the journal", () => {
  it("shows no deleted code: nothing was run there", () => {
    const made = runWith({ cells: ["a = 1"] });
    const taken = runWith({ replayed: true, output: "other" });
    const pair = { path: "root", change: "changed", a: made, b: taken } as RunPair;
    expect(textsOf(pair).map(([name]) => name)).toEqual(["Task", "Output"]);
    expect(textsOf({ ...pair, b: runWith({ cells: ["a = 2"] }) }).map(([name]) => name)).toEqual([
      "Task",
      "Cell 1",
      "Output",
    ]);
  });
  it("is told by the fake server as by the real one", () => {
    const journals = new Map<string, Journal>();
    for (const [sid, whole, hash] of [
      ["ses_a", false, "0badc0de"],
      ["ses_b", true, "deadbeef"],
    ] as const) {
      const journal = new Journal(sid, sid);
      const at = (run: string, parent?: string) => ({
        turn: `trn_${sid}`,
        run,
        ...(parent ? { parent } : {}),
      });
      const start = (run: string, path: string, parent?: string) =>
        journal.add("run.started", { kind: "rlm", task: run, model: "m", path }, at(run, parent));
      const end = (run: string, more: object) =>
        journal.add(
          "run.finished",
          { status: "ok", usage: {}, output: { head: "o", bytes: 1 }, ...more },
          at(run),
        );
      journal.add("turn.accepted", { question: "q", model: "m" }, { turn: `trn_${sid}` });
      start("root", "root");
      start("child", `root/c1.rlm_query:${hash}[3]`, "root");
      if (!whole) {
        journal.add("cell.started", { id: "c", code: { head: "x", bytes: 1 } }, at("child"));
        start("below", `root/c1.rlm_query:${hash}[3]/c1.f:${hash}`, "child");
        end("below", {});
      }
      end("child", whole ? { replayed: true } : {});
      end("root", {});
      journals.set(sid, journal);
    }
    const diff = fakeDiff(journals, "trn_ses_a", "trn_ses_b");
    expect(diff?.runs.map((pair: RunPair) => [pair.path, pair.change, pair.b?.replayed])).toEqual([
      ["root", "same", false],
      ["root/c1.rlm_query[3]", "same", true],
    ]);
  });
});
