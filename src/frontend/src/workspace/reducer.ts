import type { EventDataByType, EventType, FleetEvent, ReadSpan, Usage } from "@/generated/events";
import { Draft } from "./draft";
import type { Budget, CellView, Notice, Workbench } from "./state";

type Handlers = { [K in EventType]: (d: Draft, e: FleetEvent, data: EventDataByType[K]) => void };

function addUsage(
  into: Usage,
  more: {
    prompt_tokens?: number;
    completion_tokens?: number;
    cached_tokens?: number;
    cost_usd?: number | null;
    tries?: number;
    shared?: string | null;
  },
) {
  const known = into.calls ? into.cost_usd : 0;
  return {
    ...into,
    calls: (into.calls ?? 0) + (more.shared ? 0 : (more.tries ?? 1)),
    prompt_tokens: (into.prompt_tokens ?? 0) + (more.prompt_tokens ?? 0),
    completion_tokens: (into.completion_tokens ?? 0) + (more.completion_tokens ?? 0),
    cached_tokens: (into.cached_tokens ?? 0) + (more.cached_tokens ?? 0),
    cost_usd: known == null || more.cost_usd == null ? null : known + more.cost_usd,
  };
}

function budgetOf(d: Draft, e: FleetEvent, change: Partial<Budget>) {
  const turn = d.edit("turns", e.turn);
  if (!turn) return;
  const before: Budget = turn.budget ?? {
    spent: {},
    reserved_calls: 0,
    limits: turn.limits,
    children: 0,
    live_sandboxes: 0,
    warned: [],
    exhausted: null,
  };
  turn.budget = { ...before, ...change };
}

function note(d: Draft, e: FleetEvent, level: Notice["level"], data: EventDataByType["warning"]) {
  const turn = d.edit("turns", e.turn);
  if (!turn) return;
  const { code, message, where } = data;
  turn.notices = d.push(turn.notices, {
    level,
    code,
    message,
    where: where ?? null,
    run: e.run ?? null,
    seq: e.seq,
  });
}

function startText(d: Draft, e: FleetEvent, id: string, list: "messages" | "reasoning") {
  const turn = d.edit("turns", e.turn);
  d.put("messages", id, { id, turn: e.turn ?? "", run: e.run ?? null, text: "", done: false });
  const run = d.edit("runs", e.run);
  if (run) run[list] = d.push(run[list], id);
  if (turn && !e.depth) turn[list] = d.push(turn[list], id);
}

/** The same characters in order, as few spans as can be: those that touch become one. */
function merged(spans: readonly ReadSpan[]): ReadSpan[] {
  const out: ReadSpan[] = [];
  for (const span of [...spans].sort((a, b) => a.start - b.start || a.end - b.end)) {
    const last = out.at(-1);
    if (last && span.start <= last.end)
      out[out.length - 1] = { start: last.start, end: Math.max(last.end, span.end) };
    else out.push(span);
  }
  return out;
}

function appendText(d: Draft, id: string, text: string) {
  const message = d.edit("messages", id);
  if (message) message.text += text;
}

function finishText(d: Draft, id: string) {
  const message = d.edit("messages", id);
  if (message) message.done = true;
}

function appendOutput(d: Draft, cell: CellView, stream: "stdout" | "stderr", text: string) {
  const last = cell.output.at(-1);
  if (last?.stream === stream) {
    cell.output = [...cell.output.slice(0, -1), { stream, text: last.text + text }];
  } else {
    cell.output = d.push(cell.output, { stream, text });
  }
}

const handlers: Handlers = {
  "session.created": (d, _e, data) => {
    d.state.title = data.title;
  },
  "session.renamed": (d, _e, data) => {
    d.state.title = data.title;
  },
  "session.forked": (d, _e, data) => {
    const kind = data.edit === "replay" ? "replay" : "fork";
    d.state.forked_from = { kind, session: data.session, turn: data.turn ?? "", seq: data.seq };
  },
  "turn.accepted": (d, e, data) => {
    const id = e.turn ?? "";
    d.put("turns", id, {
      id,
      ts: e.ts,
      question: data.question,
      mode: data.mode,
      model: data.model,
      sub_model: data.sub_model,
      limits: data.limits,
      contexts: data.contexts ?? [],
      command: data.command ?? null,
      origin: data.origin ?? null,
      objects: data.objects ?? [],
      status: "running",
      finished_ts: null,
      answer: null,
      usage: {},
      limit: null,
      error: null,
      citations: [],
      provider: null,
      isolation: null,
      runs: [],
      messages: [],
      reasoning: [],
      budget: null,
      notices: [],
    });
    d.state.turn_order = d.push(d.state.turn_order, id);
    for (const context of data.contexts ?? []) d.put("contexts", context.sha256, context);
  },
  "turn.started": () => {},
  "turn.finished": (d, e, data) => {
    const turn = d.edit("turns", e.turn);
    if (!turn) return;
    turn.status = data.status;
    turn.finished_ts = e.ts;
    turn.answer = data.answer;
    turn.usage = data.usage;
    turn.limit = data.limit ?? null;
    turn.error = data.error ?? null;
    turn.citations = data.citations ?? [];
    turn.provider = data.provider ?? turn.provider;
    turn.isolation = data.isolation ?? turn.isolation;
  },
  "message.started": (d, e, data) => startText(d, e, data.id, "messages"),
  "message.delta": (d, _e, data) => appendText(d, data.id, data.text),
  "message.finished": (d, _e, data) => finishText(d, data.id),
  "reasoning.started": (d, e, data) => startText(d, e, data.id, "reasoning"),
  "reasoning.delta": (d, _e, data) => appendText(d, data.id, data.text),
  "reasoning.finished": (d, _e, data) => finishText(d, data.id),
  "run.started": (d, e, data) => {
    const id = e.run ?? "";
    d.put("runs", id, {
      id,
      turn: e.turn ?? "",
      parent: e.parent ?? null,
      depth: e.depth ?? 0,
      kind: data.kind,
      task: data.task,
      signature: data.signature,
      model: data.model,
      path: data.path ?? "",
      contexts: data.contexts ?? [],
      site: data.site ?? null,
      max_iterations: data.max_iterations ?? null,
      chars: data.chars ?? null,
      status: "running",
      started_ts: e.ts,
      finished_ts: null,
      iteration: 0,
      usage: {},
      output: null,
      limit: null,
      error: null,
      children: [],
      steps: [],
      sandbox: null,
      messages: [],
      reasoning: [],
      reads: {},
      waiting: null,
      replayed: false,
    });
    const turn = d.edit("turns", e.turn);
    if (turn) turn.runs = d.push(turn.runs, id);
    const parent = d.edit("runs", e.parent);
    if (parent) parent.children = d.push(parent.children, id);
  },
  "run.finished": (d, e, data) => {
    const run = d.edit("runs", e.run);
    if (!run) return;
    run.status = data.status;
    run.finished_ts = e.ts;
    run.usage = data.usage;
    run.output = data.output ?? null;
    run.limit = data.limit ?? null;
    run.error = data.error ?? null;
    run.replayed = data.replayed ?? false;
  },
  "iteration.started": (d, e, data) => {
    const run = d.edit("runs", e.run);
    d.put("iterations", data.id, {
      id: data.id,
      run: e.run ?? "",
      n: data.n,
      limit: data.limit,
      model_ms: null,
      sandbox_ms: null,
    });
    if (!run) return;
    run.iteration = data.n;
    run.max_iterations = data.limit;
    run.steps = d.push(run.steps, { kind: "iteration", id: data.id });
  },
  "iteration.finished": (d, _e, data) => {
    const iteration = d.edit("iterations", data.id);
    if (!iteration) return;
    iteration.model_ms = data.model_ms;
    iteration.sandbox_ms = data.sandbox_ms;
  },
  "cell.started": (d, e, data) => {
    d.put("cells", data.id, {
      id: data.id,
      run: e.run ?? "",
      iteration: data.iteration ?? null,
      code: data.code,
      output: [],
      status: "running",
      started_ts: e.ts,
      ms: null,
      output_chars: 0,
      shown: null,
      value: null,
      error: null,
      changed: [],
      truncated: false,
      batched: 0,
    });
    const run = d.edit("runs", e.run);
    if (run) run.steps = d.push(run.steps, { kind: "cell", id: data.id });
  },
  "cell.output": (d, _e, data) => {
    const cell = d.edit("cells", data.id);
    if (cell) appendOutput(d, cell, data.stream, data.text);
  },
  "cell.finished": (d, _e, data) => {
    const cell = d.edit("cells", data.id);
    if (!cell) return;
    cell.status = data.status;
    cell.ms = data.ms;
    cell.output_chars = data.output_chars;
    cell.shown = data.shown;
    cell.value = data.value ?? null;
    cell.error = data.error ?? null;
    cell.changed = data.changed ?? [];
    cell.truncated = data.truncated ?? false;
    cell.batched = data.batched ?? 0;
  },
  "call.started": (d, e, data) => {
    d.put("calls", data.id, {
      ...data,
      run: e.run ?? "",
      status: "running",
      ms: null,
      prompt_tokens: 0,
      completion_tokens: 0,
      cached_tokens: 0,
      cost_usd: null,
      cached: false,
      shared: data.shared ?? null,
      replayed: false,
      queued_ms: 0,
      response: null,
      error: null,
    });
    const run = d.edit("runs", e.run);
    if (run) run.steps = d.push(run.steps, { kind: "call", id: data.id });
  },
  "call.finished": (d, e, data) => {
    const call = d.edit("calls", data.id);
    if (!call) return;
    call.status = data.status;
    call.ms = data.ms;
    call.prompt_tokens = data.prompt_tokens ?? 0;
    call.completion_tokens = data.completion_tokens ?? 0;
    call.cost_usd = data.cost_usd ?? null;
    call.cached_tokens = data.cached_tokens ?? 0;
    call.cached = data.cached ?? false;
    call.shared = data.shared ?? null;
    call.queued_ms = data.queued_ms ?? 0;
    call.replayed = data.replayed ?? false;
    call.response = data.response ?? null;
    call.error = data.error ?? null;
    const run = d.edit("runs", e.run);
    if (run) run.usage = addUsage(run.usage, data);
  },
  "tool.started": (d, e, data) => {
    d.put("tools", data.id, {
      ...data,
      run: e.run ?? "",
      cell: data.cell ?? null,
      status: "running",
      ms: null,
      result: null,
      error: null,
      replayed: false,
    });
    const run = d.edit("runs", e.run);
    if (run) run.steps = d.push(run.steps, { kind: "tool", id: data.id });
  },
  "tool.finished": (d, _e, data) => {
    const tool = d.edit("tools", data.id);
    if (!tool) return;
    tool.status = data.status;
    tool.ms = data.ms;
    tool.result = data.result ?? null;
    tool.error = data.error ?? null;
    tool.replayed = data.replayed ?? false;
  },
  "context.added": (d, _e, data) => d.put("contexts", data.context.sha256, data.context),
  "context.read": (d, e, data) => {
    const run = d.edit("runs", e.run);
    if (!run) return;
    const before = run.reads[data.sha256] ?? [];
    run.reads = { ...run.reads, [data.sha256]: merged([...before, ...data.spans]) };
  },
  "artifact.published": (d, e, data) => {
    d.put("artifacts", data.id, {
      ...data,
      turn: e.turn ?? "",
      run: e.run ?? null,
      ts: e.ts,
      cell: data.cell ?? null,
    });
    const run = d.edit("runs", e.run);
    if (run) run.steps = d.push(run.steps, { kind: "artifact", id: data.id });
  },
  "memory.changed": (d, e, data) => {
    const { [data.block]: _before, ...others } = d.state.memory;
    d.state.memory = data.after === null ? others : { ...others, [data.block]: data.after };
    d.state.memory_edits = d.push(d.state.memory_edits, { seq: e.seq, ts: e.ts, ...data });
  },
  "history.compacted": (d, e, data) => {
    const change = `${data.before_chars} -> ${data.after_chars} characters`;
    note(d, e, "info", {
      code: "history.compacted",
      message: `${data.dropped} older steps left the model's view: ${change}`,
    });
  },
  "run.refused": () => {},
  "tools.offered": () => {},
  "approval.requested": (d, e, data) => {
    d.put("approvals", data.id, {
      id: data.id,
      turn: e.turn ?? "",
      run: e.run ?? null,
      ts: e.ts,
      kind: data.kind,
      question: data.question,
      choices: data.choices ?? [],
      detail: data.detail ?? null,
      deadline: data.deadline ?? null,
      otherwise: data.otherwise ?? null,
      unit: data.unit ?? null,
      status: "open",
      answer: null,
      who: null,
    });
    const run = d.edit("runs", e.run);
    if (!run) return;
    run.steps = d.push(run.steps, { kind: "approval", id: data.id });
    run.waiting = data.id;
  },
  "approval.resolved": (d, e, data) => {
    const approval = d.edit("approvals", data.id);
    if (approval) {
      approval.status = data.status;
      approval.answer = data.answer ?? null;
      approval.who = data.who ?? "person";
    }
    const run = d.edit("runs", e.run);
    if (run?.waiting === data.id) run.waiting = null;
  },
  "sandbox.requested": (d, e, data) =>
    d.put("sandboxes", data.id, {
      id: data.id,
      run: e.run ?? null,
      sandbox: null,
      provider: data.provider,
      isolation: null,
      state: "requested",
      ms: null,
    }),
  "sandbox.ready": (d, e, data) => {
    const box = d.edit("sandboxes", data.id);
    if (box)
      Object.assign(box, {
        sandbox: data.sandbox,
        provider: data.provider,
        isolation: data.isolation,
        ms: data.ms,
        state: "ready",
      });
    const run = d.edit("runs", e.run);
    if (run) run.sandbox = data.id;
  },
  "sandbox.lost": (d, _e, data) => {
    const box = d.edit("sandboxes", data.id);
    if (box) box.state = "lost";
  },
  "sandbox.released": (d, _e, data) => {
    const box = d.edit("sandboxes", data.id);
    if (box) box.state = "released";
  },
  "budget.updated": (d, e, data) =>
    budgetOf(d, e, {
      spent: data.spent,
      reserved_calls: data.reserved_calls,
      limits: data.limits,
      children: data.children ?? 0,
      live_sandboxes: data.live_sandboxes ?? 0,
    }),
  "budget.warned": (d, e, data) => {
    const warned = d.state.turns[e.turn ?? ""]?.budget?.warned ?? [];
    budgetOf(d, e, { warned: warned.includes(data.unit) ? warned : [...warned, data.unit] });
  },
  "budget.exhausted": (d, e, data) => budgetOf(d, e, { exhausted: data.unit }),
  warning: (d, e, data) => note(d, e, "warning", data),
  error: (d, e, data) => note(d, e, "error", data),
};

function dispatch(d: Draft, event: FleetEvent) {
  const handler = handlers[event.type] as
    | ((d: Draft, e: FleetEvent, data: FleetEvent["data"]) => void)
    | undefined;
  if (handler) handler(d, event, event.data);
  else d.state.unknown_events += 1;
}

/**
 * Events -> view. Events at or below the state's `seq` are dropped, so any duplication is harmless; a gap stops
 * the batch, so that the caller can see from `seq` that it has to ask again.
 */
export function reduce(state: Workbench, events: readonly FleetEvent[]): Workbench {
  let draft: Draft | null = null;
  for (const event of events) {
    const seq = draft?.state.seq ?? state.seq;
    if (event.seq <= seq) continue;
    if (event.seq > seq + 1) break;
    draft ??= new Draft(state);
    dispatch(draft, event);
    draft.state.seq = event.seq;
    if (event.epoch) draft.state.epoch = event.epoch;
  }
  return draft?.state ?? state;
}
