import { clsx } from "clsx";
import { Square } from "lucide-react";
import { stopActive } from "@/shell/keyboard";
import { useSelection } from "@/shell/selection";
import { Button } from "@/ui/Button";
import { Popover } from "@/ui/Popover";
import { useNow } from "@/ui/useNow";
import { compact, cost } from "@/workspace/format";
import type { TurnView } from "@/workspace/state";
import { useWorkspace } from "@/workspace/store";
import { liveUsage } from "@/workspace/tree";
import { level, type Meter, metersOf, tightest } from "./meters";

const FILL = { ok: "bg-accent", warn: "bg-warn", err: "bg-err" } as const;
const WORD = { ok: "", warn: "text-warn", err: "text-err" } as const;

function Bar({ meter, className }: { meter: Meter; className?: string }) {
  const used = (meter.fraction ?? 0) * 100;
  return (
    <span
      role="meter"
      aria-label={meter.label}
      aria-valuenow={Math.round(used)}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuetext={`${meter.used} of ${meter.limit ?? "no limit"}`}
      className={clsx("flex h-1.5 overflow-hidden rounded-full bg-line", className)}
    >
      <span className={FILL[level(meter.fraction)]} style={{ width: `${used}%` }} />
      <span
        className="bg-[repeating-linear-gradient(135deg,var(--accent)_0_2px,transparent_2px_4px)]"
        style={{ width: `${meter.reserved * 100}%` }}
      />
    </span>
  );
}

function Spenders({ turn, close }: { turn: TurnView; close: () => void }) {
  const bench = useWorkspace((state) => state.bench);
  const [, select] = useSelection();
  if (!bench) return null;
  const top = turn.runs
    .slice(1)
    .flatMap((id) => bench.runs[id] ?? [])
    .map((run) => ({ run, use: liveUsage(bench, run.id) }))
    .filter(({ use }) => use.tokens > 0)
    .sort((a, b) => (b.use.cost ?? 0) - (a.use.cost ?? 0) || b.use.tokens - a.use.tokens)
    .slice(0, 5);
  if (!top.length) return null;
  return (
    <div className="mt-3 border-t pt-2">
      <h3 className="text-xs font-medium text-muted">Most spent by</h3>
      <ul className="mt-1">
        {top.map(({ run, use }) => (
          <li key={run.id}>
            <button
              type="button"
              className="flex w-full items-baseline gap-2 rounded-sm px-1 py-0.5 text-left text-xs hover:bg-sunken"
              onClick={() => {
                close();
                select({ turn: turn.id, run: run.id, cell: undefined });
              }}
            >
              <span className="min-w-0 flex-1 truncate">{run.task}</span>
              <span className="text-muted tabular">{compact(use.tokens)}</span>
              {use.cost ? <span className="text-muted tabular">{cost(use.cost)}</span> : null}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** Header: the tightest limit as a thin bar with its value; the popover has all of them. */
export function BudgetMeter({ turn }: { turn: TurnView }) {
  const bench = useWorkspace((state) => state.bench);
  const running = turn.status === "running";
  const now = useNow(running, 1_000);
  if (!bench) return null;
  const meters = metersOf(bench, turn, now);
  const head = tightest(meters) ?? meters.find((meter) => meter.unit === "calls") ?? null;
  if (!head) return null;
  const percent = head.fraction === null ? null : `${Math.round(head.fraction * 100)} %`;
  return (
    <Popover
      label="Budget of this turn"
      align="end"
      width={320}
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
    >
      {(close) => (
        <>
          <h2 className="text-sm font-semibold">Budget of this turn</h2>
          <div className="mt-2 space-y-2.5">
            {meters.map((meter) => (
              <div key={meter.unit}>
                <div className="flex items-baseline justify-between text-xs">
                  <span>{meter.label}</span>
                  <span className={clsx("tabular", WORD[level(meter.fraction)])}>
                    {meter.used}{" "}
                    <span className="text-muted">{meter.limit ? `of ${meter.limit}` : "no limit"}</span>
                  </span>
                </div>
                {meter.fraction !== null && <Bar meter={meter} className="mt-1" />}
              </div>
            ))}
          </div>
          <Spenders turn={turn} close={close} />
          {running && (
            <Button
              look="danger"
              className="mt-3 w-full"
              icon={<Square size={12} aria-hidden="true" />}
              onClick={() => {
                close();
                stopActive();
              }}
            >
              Stop now
            </Button>
          )}
        </>
      )}
    </Popover>
  );
}
