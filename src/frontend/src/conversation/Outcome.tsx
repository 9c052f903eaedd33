import { Link } from "@tanstack/react-router";
import { CircleAlert, Gauge } from "lucide-react";
import type { Unit } from "@/generated/events";
import type { TurnView } from "@/workspace/state";

const UNITS: Record<Unit, string> = {
  calls: "model calls",
  tokens: "tokens",
  cost: "cost",
  wall: "time",
  depth: "depth",
  children: "sub-runs",
  sandboxes: "sandboxes",
  iterations: "iterations",
};

function Card(props: { tone: "err" | "warn"; title: string; children: React.ReactNode }) {
  const err = props.tone === "err";
  const Icon = err ? CircleAlert : Gauge;
  return (
    <div
      role={err ? "alert" : "note"}
      className={err ? "flex gap-2.5 rounded-lg bg-err-soft p-3" : "flex gap-2.5 rounded-lg bg-warn-soft p-3"}
    >
      <Icon
        size={16}
        className={err ? "mt-0.5 shrink-0 text-err" : "mt-0.5 shrink-0 text-warn"}
        aria-hidden="true"
      />
      <div className="min-w-0">
        <p className="font-medium">{props.title}</p>
        <div className="text-sm [overflow-wrap:anywhere]">{props.children}</div>
      </div>
    </div>
  );
}

/** How a turn ended when it was not simply answered: what happened, why, and what to do. */
export function Outcome({ turn }: { turn: TurnView }) {
  if (turn.status === "failed") {
    return (
      <Card tone="err" title={turn.error?.message ?? "The turn failed."}>
        {turn.error?.hint && <p>{turn.error.hint}</p>}
        <p className="mt-0.5 font-mono text-2xs text-muted">{turn.error?.code}</p>
        {turn.error?.code.startsWith("model") && (
          <Link to="/settings/models" className="mt-1 inline-block text-accent underline underline-offset-2">
            Open model settings
          </Link>
        )}
      </Card>
    );
  }
  if (turn.status === "limit") {
    const unit = turn.limit ? UNITS[turn.limit] : "the budget";
    return (
      <Card tone="warn" title={`The limit on ${unit} was reached`}>
        {turn.answer
          ? "The answer below is partial: it rests on what was read until then."
          : "No partial answer could be made."}{" "}
        Ask again with a higher limit under “Options”.
      </Card>
    );
  }
  if (turn.status === "interrupted") {
    return (
      <Card tone="warn" title="The server was restarted while this turn ran">
        What was reached is kept in the tree. Send the question again to start over.
      </Card>
    );
  }
  if (turn.status === "cancelled")
    return <p className="text-sm text-muted">You stopped this turn. What was reached is in the tree.</p>;
  return null;
}
