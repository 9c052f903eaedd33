import type { Unit } from "@/generated/events";
import { activeTurn } from "@/workspace/select";
import type { TurnView, Workbench } from "@/workspace/state";

/** Time begins anew and steps are a run's own: who met one of these may go on as it is. */
const ANEW: (Unit | null)[] = ["wall", "iterations", null];

/** The turn of this session that goes on from another one. */
export function successor(bench: Workbench, turn: TurnView): string | null {
  return bench.turn_order.find((id) => bench.turns[id]?.origin?.turn === turn.id) ?? null;
}

/**
 * How a turn can go on from its journal: as it is, only with a higher limit, or not. The server refuses the rest; a model
 * that was a Python object only Python can pass again.
 */
export function resumes(bench: Workbench, turn: TurnView): "now" | "raised" | null {
  if (!["interrupted", "failed", "limit", "cancelled"].includes(turn.status)) return null;
  if (turn.objects.length > 0) return null;
  if (activeTurn(bench) || successor(bench, turn)) return null;
  return turn.status === "limit" && !ANEW.includes(turn.limit) ? "raised" : "now";
}
