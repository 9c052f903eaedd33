// Two turns side by side, as GET /turns/{turn}/diff/{other} tells it.

function turnOf(journals, turn) {
  for (const journal of journals.values()) {
    const events = journal.events.filter((e) => e.turn === turn);
    if (events.length) return { journal, events };
  }
  return null;
}

function side(known, turn) {
  const first = known.events.find((e) => e.type === "turn.accepted");
  const last = known.events.find((e) => e.type === "turn.finished");
  return {
    session: known.journal.sid,
    turn,
    question: first.data.question,
    model: first.data.model,
    status: last?.data.status ?? "running",
    answer: last?.data.answer ?? null,
    usage: last?.data.usage ?? {},
    runs: known.events.filter((e) => e.type === "run.started").length,
    iterations: known.events.filter((e) => e.type === "iteration.started").length,
  };
}

function runsOf(known) {
  const out = new Map();
  const ids = new Map();
  for (const e of known.events) {
    if (e.type === "run.started") {
      const run = {
        run: e.run,
        task: e.data.task,
        kind: e.data.kind,
        model: e.data.model,
        status: "running",
        usage: {},
        output: null,
        cells: [],
      };
      out.set(e.data.path, run);
      ids.set(e.run, run);
    } else if (e.type === "cell.started") ids.get(e.run)?.cells.push(e.data.code.head);
    else if (e.type === "run.finished") {
      const run = ids.get(e.run);
      Object.assign(run, { status: e.data.status, usage: e.data.usage, output: e.data.output?.head ?? null });
    }
  }
  return out;
}

function change(a, b) {
  if (!a) return "added";
  if (!b) return "removed";
  const same = (key) => JSON.stringify(a[key]) === JSON.stringify(b[key]);
  return ["task", "model", "status", "output", "cells"].every(same) ? "same" : "changed";
}

export function diffOf(journals, left, right) {
  const [a, b] = [turnOf(journals, left), turnOf(journals, right)];
  if (!a || !b) return null;
  const [before, after] = [runsOf(a), runsOf(b)];
  const paths = [...new Set([...before.keys(), ...after.keys()])].sort();
  return {
    a: side(a, left),
    b: side(b, right),
    runs: paths.map((path) => {
      const [x, y] = [before.get(path) ?? null, after.get(path) ?? null];
      return { path, change: change(x, y), a: x, b: y };
    }),
  };
}
