// Two turns side by side, as GET /turns/{turn}/diff/{other} tells it (runtime/execution/diff.py).

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
        replayed: false,
      };
      out.set(e.data.path, run);
      ids.set(e.run, run);
    } else if (e.type === "cell.started") ids.get(e.run)?.cells.push(e.data.code.head);
    else if (e.type === "run.finished") {
      const run = ids.get(e.run);
      const { status, usage, output, replayed } = e.data;
      Object.assign(run, { status, usage, output: output?.head ?? null, replayed: replayed ?? false });
    }
  }
  return out;
}

/** A place without the hashes of what was asked there. */
const placeOf = (path) => path.replace(/:[0-9a-f]{8}(?=$|[#[/])/g, "");

function change(a, b) {
  if (!a) return "added";
  if (!b) return "removed";
  const same = (key) => JSON.stringify(a[key]) === JSON.stringify(b[key]);
  const ran = !a.replayed && !b.replayed;
  return [...["task", "model", "status", "output"], ...(ran ? ["cells"] : [])].every(same)
    ? "same"
    : "changed";
}

/** For paths of the first turn those of the second: the same path, else the next one left at the same place. */
function partners(before, after) {
  const left = new Map();
  for (const path of after.keys()) {
    if (before.has(path)) continue;
    const place = placeOf(path);
    left.set(place, [...(left.get(place) ?? []), path]);
  }
  const out = new Map();
  for (const path of before.keys()) {
    const other = after.has(path) ? path : left.get(placeOf(path))?.shift();
    if (other !== undefined) out.set(path, other);
  }
  return out;
}

function pairsOf(before, after) {
  const partner = partners(before, after);
  const taken = new Set(partner.values());
  // What the other turn took whole from the journal has nothing below it to compare.
  const whole = [...partner]
    .filter(([path, other]) => before.get(path).replayed !== after.get(other).replayed)
    .map(([path]) => `${placeOf(path)}/`);
  const rows = [...before].map(([path, a]) => [path, a, after.get(partner.get(path)) ?? null]);
  for (const [path, b] of after) if (!taken.has(path)) rows.push([path, null, b]);
  const seen = new Map();
  return rows.flatMap(([path, a, b]) => {
    const place = placeOf(path);
    if ((!a || !b) && whole.some((above) => place.startsWith(above))) return [];
    const n = (seen.get(place) ?? 0) + 1;
    seen.set(place, n);
    return [{ path: n === 1 ? place : `${place}~${n}`, change: change(a, b), a, b }];
  });
}

export function diffOf(journals, left, right) {
  const [a, b] = [turnOf(journals, left), turnOf(journals, right)];
  if (!a || !b) return null;
  return { a: side(a, left), b: side(b, right), runs: pairsOf(runsOf(a), runsOf(b)) };
}
