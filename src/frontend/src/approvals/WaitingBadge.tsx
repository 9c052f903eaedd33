import { Hand } from "lucide-react";
import { useSelection } from "@/shell/selection";
import { plural } from "@/workspace/format";
import { useWorkspace } from "@/workspace/store";
import { openApprovals } from "./approvals";

/** To the card of a question, with the focus. */
function showApproval(id: string): void {
  const card = document.querySelector<HTMLElement>(`[data-approval="${CSS.escape(id)}"]`);
  card?.scrollIntoView({ block: "center" });
  card?.focus({ preventScroll: true });
}

/** Status bar: how many questions wait, and the way to the first. */
export default function WaitingBadge() {
  const bench = useWorkspace((state) => state.bench);
  const [, select] = useSelection();
  const open = openApprovals(bench);
  const first = open[0];
  if (!first) return null;
  return (
    <button
      type="button"
      data-testid="waiting"
      className="flex h-full items-center gap-1 font-medium text-warn hover:underline"
      onClick={() => {
        select({ turn: first.turn });
        setTimeout(() => showApproval(first.id));
      }}
    >
      <Hand size={12} aria-hidden="true" />
      {plural(open.length, "question")} {open.length === 1 ? "waits" : "wait"}
    </button>
  );
}
