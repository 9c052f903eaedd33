import { Link } from "@tanstack/react-router";
import { GitFork, Repeat2 } from "lucide-react";
import { useSessions } from "@/api/queries";
import type { Origin } from "@/generated/events";
import { useWorkspace } from "@/workspace/store";

/** Where a forked or replayed session comes from. */
export default function Lineage({ from }: { from: Origin }) {
  const { data } = useSessions();
  const title = data?.find((row) => row.id === from.session)?.title;
  // The past is shared: the turn that goes on from there stands at the same place as the one it comes from.
  const n = useWorkspace((state) => {
    const order = state.bench?.turn_order ?? [];
    const at = order.findIndex((id) => state.bench?.turns[id]?.origin?.turn === from.turn);
    return at < 0 ? order.length + 1 : at + 1;
  });
  const replay = from.kind === "replay";
  const Icon = replay ? Repeat2 : GitFork;
  return (
    <p
      className="mx-auto flex w-full max-w-[760px] items-center gap-1.5 px-5 pt-4 text-xs text-muted"
      data-testid="lineage"
    >
      <Icon size={13} className="shrink-0" aria-hidden="true" />
      <span className="min-w-0 truncate">
        {replay ? `Replay of turn ${n} of` : "Forked from"}{" "}
        <Link
          to="/s/$sid"
          params={{ sid: from.session }}
          search={from.turn ? { turn: from.turn } : {}}
          className="text-accent underline underline-offset-2"
        >
          {title || "another session"}
        </Link>
        {replay ? ", worked off from its journal alone" : ` at turn ${n}`}
      </span>
    </p>
  );
}
