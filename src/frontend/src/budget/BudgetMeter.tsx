import { clsx } from "clsx";
import { lazyLayer, type Triggered } from "@/ui/layer";
import { useNow } from "@/ui/useNow";
import type { TurnView } from "@/workspace/state";
import { useWorkspace } from "@/workspace/store";
import { Bar, WORD } from "./Bar";
import { level, metersOf, tightest } from "./meters";

export interface BudgetLayerProps extends Triggered {
  turn: TurnView;
}

const BudgetLayer = lazyLayer<BudgetLayerProps>("dialog", () =>
  import("./BudgetPopover").then((module) => module.BudgetPopover),
);

/** Header: the tightest limit as a thin bar with its value; the popover has all of them. */
export function BudgetMeter({ turn }: { turn: TurnView }) {
  const bench = useWorkspace((state) => state.bench);
  const now = useNow(turn.status === "running", 1_000);
  if (!bench) return null;
  const meters = metersOf(bench, turn, now);
  const head = tightest(meters) ?? meters.find((meter) => meter.unit === "calls") ?? null;
  if (!head) return null;
  const percent = head.fraction === null ? null : `${Math.round(head.fraction * 100)} %`;
  return (
    <BudgetLayer
      turn={turn}
      trigger={
        <button
          type="button"
          data-testid="budget"
          className="flex h-7 min-w-0 items-center gap-2 rounded-md border border-line px-2 text-xs whitespace-nowrap hover:bg-sunken pointer-coarse:h-9"
        >
          <span className="sr-only">Budget:</span>
          {head.fraction !== null && <Bar meter={head} className="w-14 max-sm:w-8" />}
          <span className={clsx("tabular", WORD[level(head.fraction)])}>
            {head.used}
            {head.limit ? ` / ${head.limit}` : ""} {head.unit === "calls" ? "calls" : ""}
          </span>
          {percent && <span className="text-muted tabular max-lg:hidden">{percent}</span>}
        </button>
      }
    />
  );
}
