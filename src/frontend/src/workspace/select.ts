import type { RunView, TurnView, Workbench } from "./state";
import { useWorkspace } from "./store";

export function useBench(): Workbench | null {
  return useWorkspace((state) => state.bench);
}

/** The turn on screen: the one in the URL, else the newest. */
export function pickTurn(bench: Workbench | null, turn: string | undefined): TurnView | null {
  if (!bench) return null;
  return bench.turns[turn ?? ""] ?? bench.turns[bench.turn_order.at(-1) ?? ""] ?? null;
}

export function pickRun(
  bench: Workbench | null,
  turn: TurnView | null,
  run: string | undefined,
): RunView | null {
  if (!bench || !turn) return null;
  const chosen = bench.runs[run ?? ""];
  if (chosen?.turn === turn.id) return chosen;
  return bench.runs[turn.runs[0] ?? ""] ?? null;
}

export function activeTurn(bench: Workbench | null): TurnView | null {
  const last = bench?.turns[bench.turn_order.at(-1) ?? ""];
  return last?.status === "running" ? last : null;
}

export function activeRuns(bench: Workbench, turn: TurnView): number {
  let active = 0;
  for (const id of turn.runs) if (bench.runs[id]?.status === "running") active += 1;
  return active;
}
