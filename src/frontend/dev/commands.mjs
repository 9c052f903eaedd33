// What the fake server does with each command, in the words of the real one.
import { goOn, waiting } from "./engine.mjs";
import { closeTurn, endRun, id, Journal, Player } from "./journal.mjs";
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

function again(kind) {
  return ({ state, journal, frame, speed, changed }) => {
    const before = accepted(journal, frame.args.turn);
    if (!before) return missing("There is no such turn.");
    const limits = { ...before.data.limits, ...frame.args.limits };
    const run = (player, turn) =>
      goOn(player, frame.args.turn, kind, kind === "replay" ? 12 : 7, {
        turn,
        limits,
        question: before.data.question,
        contexts: before.data.contexts,
        model: before.data.model,
      });
    return play(state, journal, run, speed * 3, changed);
  };
}

function fork({ state, journal, frame, speed, changed }) {
  const before = accepted(journal, frame.args.turn);
  if (!before) return missing("There is no such turn.");
  const { edit, at } = frame.args;
  const made = new Journal(id("ses"), `${journal.title} (fork)`);
  const from = { session: journal.sid, turn: frame.args.turn, seq: at ?? before.seq };
  made.add("session.forked", { ...from, edit: Object.keys(edit)[0] ?? null });
  state.journals.set(made.sid, made);
  const more = {
    origin: { kind: "fork", ...from },
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
  t.limits = { ...t.limits, ...frame.args.limits };
  journal.add(
    "budget.updated",
    {
      spent: { ...t.spent },
      reserved_calls: t.live,
      limits: t.limits,
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
  fork,
};

const ALONE = { "turn.start": start, "turn.resume": again("resume"), "turn.replay": again("replay") };

export function obey(asked) {
  const { op } = asked.frame;
  if (WHILE_RUNNING[op]) return WHILE_RUNNING[op](asked);
  if (!ALONE[op]) return { ok: false, error: { code: "invalid_input", message: `Unknown command ${op}.` } };
  if (asked.journal.turn)
    return conflict("A turn is already running in this session.", "Wait for it or stop it.");
  return ALONE[op](asked);
}

export { waiting };
