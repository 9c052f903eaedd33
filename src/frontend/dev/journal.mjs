// Synthetic journals for tests and screenshots: the shapes are those of runtime/execution/events.py.
import { createHash } from "node:crypto";

const DAY = 86_400_000;

export class Journal {
  constructor(sid, title, startMs = Date.now()) {
    this.sid = sid;
    this.epoch = `ep_${sid}`;
    this.events = [];
    this.ts = startMs;
    this.created = startMs;
    this.title = title;
    this.listeners = new Set();
    this.turn = null;
    /** Runs that were cancelled: what their play still says is not heard. */
    this.gone = new Set();
    this.add("session.created", { title });
  }
  get head() {
    return this.events.length;
  }
  add(type, data, at = {}) {
    if (this.gone.has(at.run)) return { data };
    const event = {
      v: 1,
      epoch: this.epoch,
      sid: this.sid,
      seq: this.head + 1,
      ts: Math.round(this.ts),
      type,
      data,
    };
    for (const key of ["turn", "run", "parent", "depth"]) if (at[key] !== undefined) event[key] = at[key];
    this.events.push(event);
    if (type === "turn.accepted") this.turn = at.turn;
    if (type === "turn.finished") this.turn = null;
    for (const listen of this.listeners) listen(event);
    return event;
  }
}

export const text = (value) => ({ head: value.slice(0, 4096), bytes: Buffer.byteLength(value) });

let counter = 0;
export const id = (prefix) => `${prefix}_${(++counter).toString(36).padStart(6, "0")}`;

export const ASYNCIO = {
  name: "asyncio",
  sha256: "5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592",
  kind: "tree",
  bytes: 1_184_220,
  chars: 1_184_220,
  lines: 31_402,
  files: 34,
};

/** Sleeps in live play, only moves the clock in recorded play. */
export class Player {
  constructor(journal, live, speed = 1) {
    Object.assign(this, { journal, live, speed, cancelled: false, open: new Map(), made: [] });
  }
  stop() {
    this.cancelled = true;
    for (const [name, { at, reject }] of this.open) {
      this.journal.add("approval.resolved", { id: name, status: "cancelled" }, at);
      reject(new Error("cancelled"));
    }
    this.open.clear();
  }
  /** A person's answer to an open question; from there on the play is live. */
  answer(name, answer) {
    const asked = this.open.get(name);
    if (!asked) return false;
    this.open.delete(name);
    this.live = true;
    this.journal.ts = Date.now();
    this.journal.add("approval.resolved", { id: name, status: "answered", answer, who: "person" }, asked.at);
    asked.resolve(answer);
    return true;
  }
  async wait(ms) {
    if (this.live) {
      await new Promise((done) => setTimeout(done, ms / this.speed));
      this.journal.ts = Date.now();
    } else this.journal.ts += ms;
    if (this.cancelled) throw new Error("cancelled");
  }
}

/** Limits as the server tells them: without those that are none, and without the two defaults. */
export function told(limits) {
  const DEFAULTS = { depth: 2, sandboxes: 64 };
  return Object.fromEntries(
    Object.entries(limits).filter(([name, value]) => value !== null && value !== DEFAULTS[name]),
  );
}

export function openTurn(
  player,
  { question, mode = "rlm", model = "demo/search", sub_model, limits, contexts = [], command, turn, origin },
) {
  const j = player.journal;
  const at = { turn: turn ?? id("trn") };
  const accepted = j.add(
    "turn.accepted",
    {
      question,
      mode,
      model,
      sub_model: sub_model ?? model,
      limits: told(limits ?? {}),
      contexts,
      ...(command ? { command } : {}),
      ...(origin ? { origin } : {}),
    },
    at,
  );
  j.add("turn.started", {}, at);
  return {
    turn: at.turn,
    limits: limits ?? {},
    accepted,
    spent: { calls: 0, prompt_tokens: 0, completion_tokens: 0, cost_usd: 0, wall_s: 0 },
    runs: 0,
    live: 0,
    opened: [],
    start: j.ts,
    model,
  };
}

/** As runtime/execution/paths.py names places. */
function pathOf(parent, { site, task }) {
  if (!parent) return "root";
  const hash = createHash("sha256").update(task).digest("hex").slice(0, 8);
  const index = (site?.of ?? 1) > 1 ? `[${site.index}]` : "";
  return `${parent.path}/c${parent.cells}.${site?.function ?? "rlm_query"}:${hash}${index}`;
}

export function startRun(player, t, parent, data) {
  const at = {
    turn: t.turn,
    run: id("run"),
    depth: parent ? parent.depth + 1 : 0,
    ...(parent ? { parent: parent.run } : {}),
  };
  player.journal.add(
    "run.started",
    {
      signature: "task: str, context -> answer: str",
      model: t.model,
      max_iterations: 8,
      path: pathOf(parent, data),
      ...data,
    },
    at,
  );
  t.runs += 1;
  t.live += 1;
  const run = {
    ...at,
    start: player.journal.ts,
    usage: { calls: 0, prompt_tokens: 0, completion_tokens: 0, cost_usd: 0, wall_s: 0 },
    up: parent,
    box: id("box"),
    path: pathOf(parent, data),
    cells: 0,
    boxed: false,
  };
  t.opened.push(run);
  return run;
}

export function sandbox(player, run, ms = 38) {
  run.boxed = true;
  const at = { turn: run.turn, run: run.run, parent: run.parent, depth: run.depth };
  player.journal.add("sandbox.requested", { id: run.box, provider: "local" }, at);
  player.journal.add(
    "sandbox.ready",
    {
      id: run.box,
      sandbox: run.box.replace("box", "sb"),
      provider: "local",
      isolation: "namespaces+seccomp",
      ms,
    },
    at,
  );
}

export const place = (run) => ({ turn: run.turn, run: run.run, parent: run.parent, depth: run.depth });

/** Ask the person; the play goes on with the answer. */
export function ask(
  player,
  run,
  { kind = "question", question, choices, detail, seconds = 900, otherwise, unit },
) {
  const name = id("apr");
  const at = place(run);
  player.journal.add(
    "approval.requested",
    {
      id: name,
      kind,
      question,
      seconds,
      deadline: Math.round(Math.max(player.journal.ts, Date.now()) + seconds * 1000),
      ...(choices ? { choices } : {}),
      ...(detail ? { detail: text(detail) } : {}),
      ...(otherwise ? { otherwise } : {}),
      ...(unit ? { unit } : {}),
    },
    at,
  );
  return new Promise((resolve, reject) => player.open.set(name, { at, resolve, reject }));
}

export function read(player, run, context, spans) {
  const list = spans.map(([start, end]) => ({ start, end }));
  player.journal.add("context.read", { sha256: context.sha256, spans: list }, place(run));
}

export async function think(player, run, thought, every = 10) {
  const name = id("rsn");
  const at = place(run);
  player.journal.add("reasoning.started", { id: name }, at);
  for (const piece of thought.match(/[\s\S]{1,14}/g) ?? []) {
    player.journal.add("reasoning.delta", { id: name, text: piece }, at);
    await player.wait(every);
  }
  player.journal.add("reasoning.finished", { id: name, length: thought.length, sha256: "0".repeat(64) }, at);
}

export async function tool(player, run, name, args, { result, ms = 180, replayed = false } = {}) {
  const at = place(run);
  const known = id("tool");
  player.journal.add("tool.started", { id: known, name, arguments: text(args) }, at);
  await player.wait(replayed ? 0 : ms);
  player.journal.add(
    "tool.finished",
    { id: known, status: "ok", ms, result: text(result), ...(replayed ? { replayed } : {}) },
    at,
  );
}

export async function call(
  player,
  t,
  run,
  { prompt, response, ms, tokens, cost = 0, role = "root", ...marks },
) {
  const j = player.journal;
  const at = { turn: run.turn, run: run.run, parent: run.parent, depth: run.depth };
  const name = id("call");
  j.add(
    "call.started",
    { id: name, role, model: t.model, request: name.repeat(4), prompt: text(prompt) },
    at,
  );
  await player.wait(marks.replayed ? 0 : ms);
  const usage = { prompt_tokens: tokens[0], completion_tokens: tokens[1], cost_usd: cost };
  j.add("call.finished", { id: name, status: "ok", ms, ...usage, ...marks, response: text(response) }, at);
  for (const sum of [run.usage, t.spent]) {
    sum.calls += 1;
    sum.prompt_tokens += tokens[0];
    sum.completion_tokens += tokens[1];
    sum.cost_usd += cost;
  }
  t.spent.wall_s = (j.ts - t.start) / 1000;
  j.add(
    "budget.updated",
    {
      spent: { ...t.spent },
      reserved_calls: t.live,
      limits: told(t.limits),
      children: t.runs - 1,
      live_sandboxes: t.live,
    },
    { turn: t.turn },
  );
}

export async function cell(
  player,
  run,
  { code, output = [], ms = 40, iteration, status = "ok", value, error, changed = [], shown },
) {
  const j = player.journal;
  const at = { turn: run.turn, run: run.run, parent: run.parent, depth: run.depth };
  const name = id("cell");
  run.cells += 1;
  j.add("cell.started", { id: name, code: text(code), iteration }, at);
  const finish = async (spent = ms) => {
    let chars = 0;
    for (const [stream, part] of output) {
      j.add("cell.output", { id: name, stream, text: part }, at);
      chars += part.length;
      await player.wait(Math.min(30, ms / output.length));
    }
    j.add(
      "cell.finished",
      {
        id: name,
        status,
        ms: spent,
        output_chars: chars,
        shown: shown ?? chars,
        changed,
        ...(value ? { value: text(value) } : {}),
        ...(error ? { error } : {}),
      },
      at,
    );
  };
  return { name, finish };
}

/** Taken whole from the journal of an earlier turn: `usage` is what it cost then. */
export function takeRun(player, t, run, { usage, output }) {
  Object.assign(run.usage, usage);
  for (const key of Object.keys(usage)) t.spent[key] += usage[key];
  endRun(player, t, run, { output, replayed: true });
}

export function endRun(player, t, run, { status = "ok", output, error, limit, replayed } = {}) {
  const at = { turn: run.turn, run: run.run, parent: run.parent, depth: run.depth };
  if (run.boxed) player.journal.add("sandbox.released", { id: run.box }, at);
  run.usage.wall_s = (player.journal.ts - run.start) / 1000;
  player.journal.add(
    "run.finished",
    {
      status,
      usage: { ...run.usage },
      ...(output ? { output: text(output) } : {}),
      ...(error ? { error } : {}),
      ...(limit ? { limit } : {}),
      ...(replayed ? { replayed } : {}),
    },
    at,
  );
  t.live -= 1;
  t.opened = t.opened.filter((open) => open !== run);
  if (run.up)
    for (const key of Object.keys(run.usage)) if (key !== "wall_s") run.up.usage[key] += run.usage[key];
}

export function closeTurn(player, t, { status = "ok", answer, citations = [], error, limit }) {
  t.spent.wall_s = (player.journal.ts - t.start) / 1000;
  player.journal.add(
    "turn.finished",
    {
      status,
      answer: answer ?? null,
      usage: { ...t.spent },
      runs: t.runs,
      max_depth_reached: t.runs > 1 ? 1 : 0,
      citations,
      provider: "local",
      isolation: "namespaces+seccomp",
      ...(error ? { error } : {}),
      ...(limit ? { limit } : {}),
    },
    { turn: t.turn },
  );
}

export async function say(player, t, run, answer, every = 14) {
  const at = { turn: t.turn, run: run?.run, depth: 0 };
  const name = id("msg");
  player.journal.add("message.started", { id: name, role: "assistant" }, at);
  for (const piece of answer.match(/[\s\S]{1,9}/g) ?? []) {
    player.journal.add("message.delta", { id: name, text: piece }, at);
    await player.wait(every);
  }
  player.journal.add("message.finished", { id: name, length: answer.length, sha256: "0".repeat(64) }, at);
}

export { DAY };
