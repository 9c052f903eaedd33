import type { Limits } from "@/generated/events";
import type { TurnView } from "@/workspace/state";

/** The server leaves these out where they hold; any other limit that it leaves out is none. */
export const DEFAULTS = { depth: 2, sandboxes: 64 };

/** The limits in force: the newest that were told, else those that the turn began with. */
export function limitsOf(turn: TurnView): Limits {
  return { ...DEFAULTS, ...(turn.budget?.limits ?? turn.limits) };
}
