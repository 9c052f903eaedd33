import { useSelection } from "@/shell/selection";
import { compact, cost } from "@/workspace/format";
import type { TurnView } from "@/workspace/state";
import { useWorkspace } from "@/workspace/store";
import { liveUsage } from "@/workspace/tree";

/** The five sub-runs that used most, each leading to its row. */
export function Spenders({ turn, close }: { turn: TurnView; close: () => void }) {
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
