import { Link } from "@tanstack/react-router";
import { GitFork, Play, Repeat2 } from "lucide-react";
import { useSelection } from "@/shell/selection";
import { plural } from "@/workspace/format";
import type { TurnView, Workbench } from "@/workspace/state";

const LOOK = {
  resume: [Play, "Resumed from"],
  replay: [Repeat2, "Replayed from"],
  fork: [GitFork, "Forked from"],
} as const;

/** How many model and tool calls of a turn got their answer from the journal, with those of runs taken whole. */
export function replayedCalls(bench: Workbench, turn: TurnView): number {
  let count = 0;
  for (const id of turn.runs) {
    const run = bench.runs[id];
    if (run?.replayed) count += run.usage.calls ?? 0;
    for (const step of run?.steps ?? []) {
      if (bench.calls[step.id]?.replayed || bench.tools[step.id]?.replayed) count += 1;
    }
  }
  return count;
}

/** Where a turn comes from that was not simply asked, and what that saved. */
export default function OriginLine({ bench, turn }: { bench: Workbench; turn: TurnView }) {
  const [, select] = useSelection();
  const { origin } = turn;
  if (!origin) return null;
  const [Icon, words] = LOOK[origin.kind];
  // The head of the session says it already, for the turn that the session was made for.
  const said = bench.forked_from?.turn === origin.turn && bench.forked_from.session === origin.session;
  const n = bench.turn_order.indexOf(origin.turn) + 1;
  const taken = replayedCalls(bench, turn);
  if (said && taken === 0) return null;
  const link = "text-accent underline underline-offset-2";
  return (
    <p
      className="flex min-h-6 flex-wrap items-center gap-1.5 px-1.5 pb-1 text-xs text-muted tabular"
      data-testid="origin"
    >
      <Icon size={13} aria-hidden="true" />
      <span>
        {!said && `${words} `}
        {said ? null : n > 0 ? (
          <button
            type="button"
            className={link}
            onClick={() => select({ turn: origin.turn, run: undefined })}
          >
            turn {n}
          </button>
        ) : origin.session === bench.sid ? (
          "an earlier turn"
        ) : (
          <Link to="/s/$sid" params={{ sid: origin.session }} search={{ turn: origin.turn }} className={link}>
            another session
          </Link>
        )}
        {taken > 0 && `${said ? "" : ", "}${plural(taken, "call")} taken from the journal`}
      </span>
    </p>
  );
}
