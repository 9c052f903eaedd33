import { Link } from "@tanstack/react-router";
import { GitFork } from "lucide-react";
import { useSessions } from "@/api/queries";
import type { Origin } from "@/generated/events";
import { useWorkspace } from "@/workspace/store";

/** Where a forked session comes from. */
export default function Lineage({ from }: { from: Origin }) {
  const { data } = useSessions();
  const title = data?.find((row) => row.id === from.session)?.title;
  // The past is shared: the turn it was forked at stands at the same place here.
  const n = useWorkspace((state) => {
    const order = state.bench?.turn_order ?? [];
    const at = order.findIndex((id) => state.bench?.turns[id]?.origin?.kind === "fork");
    return at < 0 ? order.length + 1 : at + 1;
  });
  return (
    <p
      className="mx-auto flex w-full max-w-[760px] items-center gap-1.5 px-5 pt-4 text-xs text-muted"
      data-testid="lineage"
    >
      <GitFork size={13} className="shrink-0" aria-hidden="true" />
      <span className="min-w-0 truncate">
        Forked from{" "}
        <Link
          to="/s/$sid"
          params={{ sid: from.session }}
          search={from.turn ? { turn: from.turn } : {}}
          className="text-accent underline underline-offset-2"
        >
          {title || "another session"}
        </Link>{" "}
        at turn {n}
      </span>
    </p>
  );
}
