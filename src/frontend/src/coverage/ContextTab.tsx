import { clsx } from "clsx";
import { FileText, Folder } from "lucide-react";
import { useMemo, useState } from "react";
import { useSelection } from "@/shell/selection";
import { runName } from "@/tree/TreeRow";
import { Button } from "@/ui/Button";
import { number, plural } from "@/workspace/format";
import type { RunView, TurnView, Workbench } from "@/workspace/state";
import { type Coverage, coverageOf, heat, subtree } from "./coverage";
import { CELLS, HeatStrip } from "./HeatStrip";

const SPANS = 12;

interface ContextTabProps {
  bench: Workbench;
  turn: TurnView;
  run: RunView | null;
}

export function percent(share: number): string {
  if (share <= 0) return "nothing";
  if (share >= 0.9995) return "all of it";
  return share < 0.01 ? "less than 1 %" : `${Math.floor(share * 100)} %`;
}

function Card({ coverage, runs }: { coverage: Coverage; runs: readonly RunView[] }) {
  const { context, spans } = coverage;
  const [, select] = useSelection();
  const [all, setAll] = useState(false);
  const values = useMemo(() => heat(context, runs, CELLS), [context, runs]);
  const Icon = context.kind === "tree" ? Folder : FileText;
  const words = percent(coverage.share);
  const open = (start: number, end: number) => select({ span: `${context.sha256}:${start}-${end}` });
  const pick = (char: number) => {
    const hit = spans.find((span) => char >= span.start && char < span.end);
    const near = hit ?? { start: char, end: Math.min(context.chars, char + 2_000) };
    open(near.start, near.end);
  };
  const shown = all ? spans : spans.slice(0, SPANS);
  return (
    <section aria-label={context.name} className="mb-4" data-testid="coverage">
      <div className="mb-1.5 flex items-baseline gap-2">
        <Icon size={14} className="shrink-0 translate-y-0.5 text-muted" aria-hidden="true" />
        <h2 className="min-w-0 truncate text-sm font-semibold">{context.name}</h2>
        <span className="ml-auto shrink-0 text-sm font-medium tabular" data-testid="coverage-share">
          {words} read
        </span>
      </div>
      <HeatStrip
        context={context}
        values={values}
        label={`${context.name}: ${words} read, by ${plural(coverage.readers, "run")}`}
        onPick={pick}
      />
      <p className="mt-1 flex justify-between text-2xs text-muted tabular">
        <span>
          {number(coverage.read)} of {number(context.chars)} characters
          {coverage.readers > 0 && `, by ${plural(coverage.readers, "run")}`}
        </span>
        <span>{number(context.lines)} lines</span>
      </p>
      {spans.length > 0 && (
        <ul className="mt-1.5 flex flex-wrap gap-1" aria-label={`Spans read of ${context.name}`}>
          {shown.map((span) => (
            <li key={span.start}>
              <button
                type="button"
                data-testid="span"
                className="h-6 rounded-md border border-line bg-panel px-1.5 font-mono text-2xs text-muted tabular hover:border-line-strong hover:text-text pointer-coarse:h-10"
                onClick={() => open(span.start, span.end)}
              >
                {number(span.start)}–{number(span.end)}
              </button>
            </li>
          ))}
          {spans.length > shown.length && (
            <li>
              <Button look="quiet" className="h-6 px-1.5 text-2xs" onClick={() => setAll(true)}>
                {number(spans.length - shown.length)} more
              </Button>
            </li>
          )}
        </ul>
      )}
    </section>
  );
}

function Scope(props: { run: RunView; whole: boolean; onChange: (whole: boolean) => void }) {
  const button = (whole: boolean, label: string, title?: string) => (
    <button
      type="button"
      aria-pressed={props.whole === whole}
      title={title}
      onClick={() => props.onChange(whole)}
      className={clsx(
        "h-7 min-w-0 truncate rounded-md px-2 text-xs pointer-coarse:h-10",
        props.whole === whole ? "bg-panel font-medium shadow-[0_0_0_1px_var(--line)]" : "text-muted",
      )}
    >
      {label}
    </button>
  );
  return (
    <div
      className="mb-4 flex w-fit max-w-full gap-1 rounded-lg bg-sunken p-0.5"
      role="group"
      aria-label="Read by"
    >
      {button(true, "Whole turn")}
      {button(false, `Run: ${runName(props.run).slice(0, 48)}`, runName(props.run))}
    </div>
  );
}

/** Which parts of every context were read: by the whole turn, or by the selected run and what it delegated. */
export default function ContextTab({ bench, turn, run }: ContextTabProps) {
  const root = turn.runs[0];
  const chosen = run && run.id !== root ? run : null;
  const [whole, setWhole] = useState(chosen === null);
  const runs = useMemo(
    () => (chosen && !whole ? subtree(bench, chosen) : turn.runs.flatMap((id) => bench.runs[id] ?? [])),
    [bench, turn, chosen, whole],
  );
  const all = useMemo(() => coverageOf(bench, turn, runs), [bench, turn, runs]);
  return (
    <div className="p-3" data-testid="context-tab">
      {chosen && <Scope run={chosen} whole={whole} onChange={setWhole} />}
      {all.length === 0 && <p className="text-sm text-muted">This turn has no contexts.</p>}
      {all.map((coverage) => (
        <Card key={coverage.context.sha256} coverage={coverage} runs={runs} />
      ))}
      {all.length > 0 && (
        <p className="text-2xs text-muted">
          Read means looked at: searched, printed, joined, iterated over, or put into a prompt. Naming a
          context, measuring it, slicing it or handing a slice to a sub-run is not reading. Darker parts were
          read by more runs. Click a part to see its lines.
        </p>
      )}
    </div>
  );
}
