import { clsx } from "clsx";
import { ChevronRight, ListTree } from "lucide-react";
import { useSelection } from "@/shell/selection";
import { setInspector } from "@/shell/ui";
import { StatusIcon } from "@/ui/StatusIcon";
import { useNow } from "@/ui/useNow";
import { clock, compact, cost, duration, number, plural } from "@/workspace/format";
import { activeRuns } from "@/workspace/select";
import type { RunView, TurnView, Workbench } from "@/workspace/state";
import { liveUsage } from "@/workspace/tree";

const ENDED: Record<string, string> = {
  ok: "Answered",
  failed: "Failed",
  cancelled: "Stopped",
  limit: "Limit reached",
  interrupted: "Interrupted",
};

function doing(bench: Workbench, root: RunView | undefined): string {
  if (!root) return "starting";
  const step = root.steps.at(-1);
  if (step?.kind === "call") return "waiting for the model";
  if (step?.kind === "tool") return `tool ${bench.tools[step.id]?.name ?? ""}`;
  if (step?.kind === "cell") {
    const open = root.children.filter((id) => bench.runs[id]?.status === "running").length;
    const done = root.children.length - open;
    return root.children.length ? `sub-runs ${number(done)}/${number(root.children.length)}` : "running code";
  }
  return root.sandbox ? "working" : "starting a sandbox";
}

/** One line about everything a turn does or did; it opens the tree. */
export function ActivityStrip(props: {
  bench: Workbench;
  turn: TurnView;
  open: boolean;
  onToggle: () => void;
}) {
  const { bench, turn } = props;
  const running = turn.status === "running";
  const now = useNow(running);
  const [, select] = useSelection();
  const root = bench.runs[turn.runs[0] ?? ""];
  const usage = liveUsage(bench, turn.runs[0] ?? "");
  const elapsed = (turn.finished_ts ?? Math.max(now, turn.ts)) - turn.ts;
  const waits = running && turn.runs.some((id) => bench.runs[id]?.waiting);
  const facts = running
    ? [
        waits ? "waits for you" : null,
        `${plural(Math.max(1, activeRuns(bench, turn)), "run")} active`,
        root?.iteration ? `iteration ${root.iteration}/${root.max_iterations ?? "?"}` : null,
        doing(bench, root),
        clock(elapsed),
      ]
    : [
        plural(turn.runs.length, "run"),
        plural(usage.calls, "call"),
        `${compact(usage.tokens)} tokens`,
        usage.calls ? (usage.cost === null ? "cost unknown" : cost(usage.cost)) : null,
        duration(elapsed),
      ];
  return (
    <div
      className="flex h-8 items-center gap-1 text-xs text-muted tabular"
      data-testid="activity"
      data-status={turn.status}
    >
      <button
        type="button"
        className="flex h-7 min-w-0 items-center gap-1.5 rounded-md pr-2 pl-1 hover:bg-sunken"
        aria-expanded={props.open}
        onClick={props.onToggle}
      >
        <ChevronRight
          size={13}
          aria-hidden="true"
          className={clsx("shrink-0 transition-transform", props.open && "rotate-90")}
        />
        <StatusIcon status={waits ? "waiting" : turn.status} size={14} />
        {!running && <span className="font-medium text-text">{ENDED[turn.status]}</span>}
        <span className="truncate">{facts.filter(Boolean).join(" · ")}</span>
      </button>
      <button
        type="button"
        className="ml-auto flex h-7 shrink-0 items-center gap-1 rounded-md px-1.5 hover:bg-sunken hover:text-text"
        onClick={() => {
          select({ turn: turn.id, run: undefined, cell: undefined });
          setInspector(true);
        }}
      >
        <ListTree size={13} aria-hidden="true" />
        <span className="max-sm:sr-only">Open tree</span>
      </button>
    </div>
  );
}
