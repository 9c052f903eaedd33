import type { RunView, Workbench } from "@/workspace/state";

export interface Segment {
  kind: "model" | "sandbox" | "queue" | "person";
  start: number;
  end: number;
}

export interface Lanes {
  model: Segment[];
  sandbox: Segment[];
}

/**
 * What a run's time was spent on. Cells have a start in the journal; a call has only its duration, so it is laid
 * before the cell that follows it, or after what came before. Milliseconds since 1970.
 */
export function lanesOf(bench: Workbench, run: RunView, now: number): Lanes {
  const out: Lanes = { model: [], sandbox: [] };
  const stop = run.finished_ts ?? now;
  let cursor = run.started_ts;
  for (const [at, step] of run.steps.entries()) {
    if (step.kind === "cell") {
      const cell = bench.cells[step.id];
      if (!cell) continue;
      const start = Math.max(run.started_ts, cell.started_ts);
      const end = cell.ms === null ? stop : start + cell.ms;
      out.sandbox.push({ kind: "sandbox", start, end: Math.min(stop, Math.max(start, end)) });
      cursor = Math.max(cursor, end);
    } else if (step.kind === "call") {
      const call = bench.calls[step.id];
      if (!call || call.replayed) continue;
      const next = nextCell(bench, run, at);
      const ms = call.ms ?? Math.max(0, (next ?? stop) - cursor);
      const start = next !== null ? Math.max(cursor, next - ms) : cursor;
      const end = Math.min(stop, start + ms);
      const queued = Math.min(call.queued_ms, end - start);
      if (queued > 0) out.model.push({ kind: "queue", start, end: start + queued });
      out.model.push({ kind: "model", start: start + queued, end });
      cursor = Math.max(cursor, end);
    }
  }
  return out;
}

function nextCell(bench: Workbench, run: RunView, from: number): number | null {
  const step = run.steps[from + 1];
  return step?.kind === "cell" ? (bench.cells[step.id]?.started_ts ?? null) : null;
}

/** Round times for an axis of about `count` ticks over `span` milliseconds. */
export function ticks(span: number, count: number): number[] {
  const raw = Math.max(1, span / Math.max(1, count));
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((by) => by * power).find((size) => size >= raw) ?? raw;
  const out: number[] = [];
  for (let at = 0; at <= span; at += step) out.push(at);
  return out;
}
