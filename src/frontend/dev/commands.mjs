// What the fake server does with each command, in the words of the real one.
import { goOn, waiting } from "./engine.mjs";
import { closeTurn, endRun, id, Journal, Player, told } from "./journal.mjs";
import { search } from "./scenarios.mjs";

const conflict = (message, hint) => ({ ok: false, error: { code: "conflict", message, hint } });
const missing = (message) => ({ ok: false, error: { code: "not_found", message } });

function accepted(journal, turn) {
  return journal.events.find((e) => e.type === "turn.accepted" && e.turn === turn);
}

function end(player) {
  const t = player.turn;
  for (const run of [...t.opened].reverse()) endRun(player, t, run, { status: "cancelled" });
  closeTurn(player, t, { status: "cancelled", answer: null });
}

function play(state, journal, run, speed, changed) {
  const player = new Player(journal, true, speed);
  state.players.set(journal.sid, player);
  journal.ts = Date.now();
  const turn = id("trn");
  run(player, turn)
    .catch(() => end(player))
    .finally(changed);
  changed();
  return { ok: true, session: journal.sid, turn, seq: journal.head };
}

function start({ state, journal, frame, speed, changed }) {
  const contexts = frame.args.contexts.map((sha256, i) => ({
    name: `context-${i + 1}`,
    sha256,
    kind: "text",
    bytes: 20_000_000,
    chars: 20_000_000,
    lines: 412_000,
  }));
  const more = {
    ...frame.args,
    command: frame.id,
    contexts,
    model: frame.args.model ?? state.settings.model ?? "demo/search",
    limits: { calls: 200, wall_s: 120, ...frame.args.limits },
  };
  return play(state, journal, (player, turn) => search(player, { ...more, turn }), speed, changed);
}

/** What `again.resume` of the real server says no to; null where it goes on. */
function refusal(journal, turn, limits) {
  const end = journal.events.find((e) => e.type === "turn.finished" && e.turn === turn);
  if (!end) return conflict("this turn is still running", "wait for it or stop it");
  if (end.data.status === "ok")
    return conflict("this turn came to its end", "replay it, or fork it to change something");
  const later = journal.events.find((e) => e.type === "turn.accepted" && e.data.origin?.turn === turn);
  if (later) return conflict(`turn ${later.turn} goes on from this one already`, "resume that one");
  const unit = end.data.status === "limit" ? end.data.limit : null;
  if (!unit || unit === "wall" || unit === "iterations") return null;
  const [name, old] = [unit === "cost" ? "cost_usd" : unit, lastLimits(journal, turn)];
  const higher = limits?.[name] === null || (old[name] !== undefined && limits?.[name] > old[name]);
  const message = `this turn ended at its ${unit} limit and would end there again`;
  return higher
    ? null
    : { ok: false, error: { code: "invalid_input", message, hint: "give a higher limit" } };
}

/** The limits that a turn had at its end. */
function lastLimits(journal, turn) {
  const last = journal.events.findLast((e) => e.type === "budget.updated" && e.turn === turn);
  return (last ?? accepted(journal, turn)).data.limits;
}

const sameAs = ({ data }) => ({ question: data.question, contexts: data.contexts, model: data.model });

function resume({ state, journal, frame, speed, changed }) {
  const { turn: from, limits } = frame.args;
  const before = accepted(journal, from);
  if (!before) return missing("There is no such turn.");
  const no = refusal(journal, from, limits);
  if (no) return no;
  const more = { ...sameAs(before), limits: { ...lastLimits(journal, from), ...limits } };
  const run = (player, turn) => goOn(player, journal.sid, from, "resume", 7, { ...more, turn });
  return play(state, journal, run, speed * 3, changed);
}

/** A session of its own that begins with a copy of what came before the turn, under turn ids of its own. */
function copied(state, journal, before, { title, edit }) {
  const made = new Journal(id("ses"), title);
  const shared = { session: journal.sid, turn: before.turn, seq: before.seq - 1, edit };
  made.add("session.forked", shared);
  const turns = new Map();
  for (const e of journal.events.slice(0, before.seq - 1)) {
    if (e.type.startsWith("session.")) continue;
    if (e.turn && !turns.has(e.turn)) turns.set(e.turn, id("trn"));
    made.ts = e.ts;
    made.add(e.type, e.data, { ...e, ...(e.turn ? { turn: turns.get(e.turn) } : {}) });
  }
  state.journals.set(made.sid, made);
  return made;
}

function replay({ state, journal, frame, speed, changed }) {
  const { turn: from } = frame.args;
  const before = accepted(journal, from);
  if (!before) return missing("There is no such turn.");
  if (journal.turn === from) return conflict("this turn is still running", "wait for it or stop it");
  const title = `Replay: ${before.data.question}`.slice(0, 80);
  const made = copied(state, journal, before, { title, edit: "replay" });
  const more = { ...sameAs(before), limits: before.data.limits };
  const run = (player, turn) => goOn(player, journal.sid, from, "replay", 12, { ...more, turn });
  return play(state, made, run, speed * 3, changed);
}

function fork({ state, journal, frame, speed, changed }) {
  const before = accepted(journal, frame.args.turn);
  if (!before) return missing("There is no such turn.");
  const { edit, at } = frame.args;
  const words = Object.keys(edit);
  if (words.length === 0) {
    const hint = "edit the question, a cell, a prompt, the models or the limits, or replay the turn";
    return {
      ok: false,
      error: { code: "invalid_input", message: "nothing is different in this fork", hint },
    };
  }
  for (const [what, known] of [
    ["cell", edit.cell?.id],
    ["call", edit.prompt?.call],
  ]) {
    const there = (e) => e.type === `${what}.started` && e.data.id === known && e.turn === before.turn;
    if (known && !journal.events.some(there)) return missing(`this turn has no ${what} ${known}`);
  }
  const made = copied(state, journal, before, { title: `Fork: ${journal.title}`, edit: words.join(", ") });
  const last = journal.events.findLast((e) => e.turn === before.turn);
  const more = {
    origin: { kind: "fork", session: journal.sid, turn: before.turn, seq: at ?? last.seq },
    question: edit.question ?? before.data.question,
    model: edit.model ?? before.data.model,
    contexts: before.data.contexts,
    limits: { ...before.data.limits, ...edit.limits },
  };
  return play(state, made, (player, turn) => search(player, { ...more, turn }), speed, changed);
}

function below(journal, run) {
  const inside = new Set([run]);
  for (const e of journal.events) if (e.type === "run.started" && inside.has(e.parent)) inside.add(e.run);
  return [...inside].reverse();
}

function cancelRun({ state, journal, frame }) {
  const player = state.players.get(journal.sid);
  const root = journal.events.find((e) => e.type === "run.started" && e.run === frame.args.run && !e.parent);
  if (root) {
    player?.stop(); // the root run is the turn
    return { ok: true };
  }
  const ended = new Set(journal.events.filter((e) => e.type === "run.finished").map((e) => e.run));
  for (const run of below(journal, frame.args.run)) {
    const begun = journal.events.find((e) => e.type === "run.started" && e.run === run);
    if (!begun || ended.has(run)) continue;
    const at = { turn: begun.turn, run, parent: begun.parent, depth: begun.depth };
    journal.ts = Date.now();
    for (const [name, asked] of player?.open ?? []) {
      if (asked.at.run !== run) continue;
      journal.add("approval.resolved", { id: name, status: "cancelled", who: "rule" }, at);
      player.open.delete(name);
      asked.resolve(null);
    }
    journal.add("run.finished", { status: "cancelled", usage: { calls: 0 } }, at);
    journal.gone.add(run);
  }
  return { ok: true };
}

function setLimits({ state, journal, frame }) {
  const t = state.players.get(journal.sid)?.turn;
  if (!t || t.turn !== journal.turn) return conflict("The turn has ended.", "Resume it with these limits.");
  const changed = { ...t.limits, ...frame.args.limits };
  const { calls } = t.spent;
  if (changed.calls != null && changed.calls < calls) {
    const message = `the calls limit cannot be ${changed.calls}: ${calls} calls are made or under way already`;
    return { ok: false, error: { code: "invalid_input", message } };
  }
  t.limits = changed;
  journal.add(
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
  return { ok: true };
}

function approve({ state, journal, frame }) {
  const done = state.players.get(journal.sid)?.answer(frame.args.approval, frame.args.answer);
  return done ? { ok: true } : conflict("This question is over.");
}

function setMemory({ journal, frame }) {
  const { block, text } = frame.args;
  if ((text ?? "").length > 2_000)
    return { ok: false, error: { code: "invalid_input", message: "Too long." } };
  journal.ts = Date.now();
  journal.add("memory.changed", { block, before: blockOf(journal, block), after: text, who: "person" });
  return { ok: true, seq: journal.head };
}

function undoMemory({ journal, frame }) {
  const edit = journal.events[frame.args.seq - 1];
  if (edit?.type !== "memory.changed") return missing("There is no such change.");
  const { block, before } = edit.data;
  journal.ts = Date.now();
  journal.add("memory.changed", { block, before: blockOf(journal, block), after: before, who: "undo" });
  return { ok: true, seq: journal.head };
}

export function blockOf(journal, block) {
  const last = journal.events.findLast((e) => e.type === "memory.changed" && e.data.block === block);
  return last?.data.after ?? null;
}

const WHILE_RUNNING = {
  "turn.cancel": ({ state, journal }) => {
    state.players.get(journal.sid)?.stop();
    return { ok: true };
  },
  "run.cancel": cancelRun,
  "budget.set": setLimits,
  approve,
  "memory.set": setMemory,
  "memory.undo": undoMemory,
  "turn.replay": replay,
  fork,
};

const ALONE = { "turn.start": start, "turn.resume": resume };

export function obey(asked) {
  const { op } = asked.frame;
  if (WHILE_RUNNING[op]) return WHILE_RUNNING[op](asked);
  if (!ALONE[op]) return { ok: false, error: { code: "invalid_input", message: `Unknown command ${op}.` } };
  if (asked.journal.turn)
    return conflict("A turn is already running in this session.", "Wait for it or stop it.");
  return ALONE[op](asked);
}

export { waiting };
