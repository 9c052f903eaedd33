import type { ContextRef, ReadSpan } from "@/generated/events";
import type { RunView, TurnView, Workbench } from "@/workspace/state";

export interface Coverage {
  context: ContextRef;
  spans: ReadSpan[];
  /** Characters read at least once. */
  read: number;
  /** 0 to 1. */
  share: number;
  /** Runs that read anything of it. */
  readers: number;
}

/** The same characters as few spans as can be. */
export function union(spans: readonly ReadSpan[]): ReadSpan[] {
  const out: ReadSpan[] = [];
  for (const span of [...spans].sort((a, b) => a.start - b.start || a.end - b.end)) {
    const last = out.at(-1);
    if (last && span.start <= last.end) last.end = Math.max(last.end, span.end);
    else out.push({ ...span });
  }
  return out;
}

/** What was read of every context of a turn, by all its runs or by the ones given. */
export function coverageOf(bench: Workbench, turn: TurnView, runs: readonly RunView[]): Coverage[] {
  const contexts = new Map<string, ContextRef>();
  const keep = (context: ContextRef) => {
    const known = contexts.get(context.sha256);
    if (!known || context.chars > known.chars) contexts.set(context.sha256, context);
  };
  for (const context of turn.contexts) keep(context);
  for (const run of runs)
    for (const sha of Object.keys(run.reads)) {
      const known = bench.contexts[sha] ?? run.contexts.find((context) => context.sha256 === sha);
      if (known) keep(known);
    }
  return [...contexts.values()].map((context) => {
    const parts = runs.map((run) => run.reads[context.sha256] ?? []);
    const spans = union(parts.flat());
    const read = spans.reduce((sum, span) => sum + span.end - span.start, 0);
    return {
      context,
      spans,
      read,
      share: context.chars ? Math.min(1, read / context.chars) : 0,
      readers: parts.filter((part) => part.length > 0).length,
    };
  });
}

/** How often each of `cells` equal pieces of a context was read: 0 to 1 of the piece, per run summed up. */
export function heat(context: ContextRef, runs: readonly RunView[], cells: number): number[] {
  const out = new Array<number>(cells).fill(0);
  const size = Math.max(1, context.chars / cells);
  for (const run of runs) {
    for (const { start, end } of run.reads[context.sha256] ?? []) {
      const first = Math.max(0, Math.floor(start / size));
      const last = Math.min(cells - 1, Math.floor((end - 1) / size));
      for (let i = first; i <= last; i += 1) {
        const inside = Math.min(end, (i + 1) * size) - Math.max(start, i * size);
        out[i] = (out[i] ?? 0) + inside / size;
      }
    }
  }
  return out;
}

/** A run with everything below it. */
export function subtree(bench: Workbench, run: RunView): RunView[] {
  const out: RunView[] = [];
  const stack = [run.id];
  while (stack.length) {
    const next = bench.runs[stack.pop() ?? ""];
    if (!next) continue;
    out.push(next);
    stack.push(...next.children);
  }
  return out;
}
