import { Check, Timer, X } from "lucide-react";
import type { ApprovalView, TurnView, Workbench } from "@/workspace/state";
import { ApprovalCard } from "./ApprovalCard";
import { approvalsOf } from "./approvals";

const SHOWN = 6;

function Resolved({ approval }: { approval: ApprovalView }) {
  const { status } = approval;
  const Icon = status === "answered" ? Check : status === "expired" ? Timer : X;
  const answer = approval.answer === null ? "" : `“${approval.answer}”`;
  const words =
    status === "answered"
      ? `${approval.who === "rule" ? "The policy answered" : "You answered"} ${answer}`
      : status === "expired"
        ? `Nobody answered in time: ${answer || "no answer"} was taken`
        : "Not answered: what asked was stopped";
  return (
    <li className="flex items-baseline gap-1.5" data-testid="approval-resolved">
      <Icon size={12} className="shrink-0 translate-y-0.5" aria-hidden="true" />
      <span className="shrink-0 text-text [overflow-wrap:anywhere] max-sm:shrink">{words}</span>
      <span className="min-w-0 truncate" title={approval.question}>
        {approval.question}
      </span>
    </li>
  );
}

/** What a turn asked: the open questions as cards, the others as one line each. */
export default function Approvals({ bench, turn }: { bench: Workbench; turn: TurnView }) {
  const all = approvalsOf(bench, turn.id);
  const open = all.filter((approval) => approval.status === "open");
  const over = all.filter((approval) => approval.status !== "open");
  return (
    <div className="mb-3 space-y-2" data-testid="approvals">
      {over.length > 0 && (
        <ul className="space-y-0.5 text-xs text-muted" aria-label="Answered questions">
          {over.length > SHOWN && <li>{over.length - SHOWN} earlier questions are in the run's steps.</li>}
          {over.slice(-SHOWN).map((approval) => (
            <Resolved key={approval.id} approval={approval} />
          ))}
        </ul>
      )}
      {open.map((approval) => (
        <ApprovalCard key={approval.id} bench={bench} turn={turn} approval={approval} />
      ))}
    </div>
  );
}
