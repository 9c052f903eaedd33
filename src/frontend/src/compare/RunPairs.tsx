import { Link } from "@tanstack/react-router";
import { clsx } from "clsx";
import { ChevronRight, Equal, Minus, PencilLine, Plus } from "lucide-react";
import { useMemo, useState } from "react";
import { Button } from "@/ui/Button";
import { compact, cost, number, plural } from "@/workspace/format";
import { DiffText } from "./DiffText";
import { isSame } from "./diffs";
import { byPath, type Change, depthOf, type RunPair, type Side, type SideRun, textsOf } from "./shape";

const LOOK: Record<Change, [typeof Plus, string, string]> = {
  same: [Equal, "text-muted", "the same"],
  changed: [PencilLine, "text-warn", "changed"],
  added: [Plus, "text-ok", "only in B"],
  removed: [Minus, "text-err", "only in A"],
};

const STEP = 200;

function spent(run: SideRun | null): string {
  if (!run) return "–";
  const tokens = (run.usage.prompt_tokens ?? 0) + (run.usage.completion_tokens ?? 0);
  return run.usage.cost_usd ? cost(run.usage.cost_usd) : compact(tokens);
}

/** The texts of two runs that differ, each with its difference. */
function Details({ pair, a, b }: { pair: RunPair; a: Side; b: Side }) {
  const x = pair.a;
  const y = pair.b;
  const taken = x?.replayed && y?.replayed ? "both turns" : x?.replayed ? "A" : y?.replayed ? "B" : null;
  const different = textsOf(pair).filter(([, before, after]) => !isSame(before, after));
  const link = (side: Side, run: SideRun | null, name: string) =>
    run && (
      <Link
        to="/s/$sid"
        params={{ sid: side.session }}
        search={{ turn: side.turn, run: run.run }}
        className="text-accent underline underline-offset-2"
      >
        Open in {name}
      </Link>
    );
  return (
    <div className="space-y-2.5 border-t bg-bg px-3 py-2.5" data-testid="pair-details">
      <p className="flex flex-wrap gap-x-4 text-xs text-muted">
        <span className="font-mono text-2xs">{pair.path}</span>
        {x && y && x.status !== y.status && (
          <span>
            {x.status} → {y.status}
          </span>
        )}
        {x && y && x.model !== y.model && (
          <span>
            {x.model} → {y.model}
          </span>
        )}
        {link(a, x, "A")}
        {link(b, y, "B")}
      </p>
      {taken && (
        <p className="text-xs text-muted">
          In {taken} this run was taken whole from an earlier turn: its output came from the journal, no code
          was run.
        </p>
      )}
      {different.length === 0 && (
        <p className="text-xs text-muted">
          {taken ? "Task and output are the same." : "Task, code and output are the same."}
        </p>
      )}
      {different.map(([name, before, after]) => (
        <div key={name}>
          <h3 className="mb-1 text-xs font-medium text-muted">{name}</h3>
          <DiffText before={before} after={after} label={`${name}, changes`} />
        </div>
      ))}
    </div>
  );
}

function Pair({ pair, a, b }: { pair: RunPair; a: Side; b: Side }) {
  const [open, setOpen] = useState(depthOf(pair.path) === 0 && pair.change !== "same");
  const [Icon, tone, word] = LOOK[pair.change];
  const run = pair.b ?? pair.a;
  return (
    <li className="border-t first:border-t-0" data-testid="pair" data-change={pair.change}>
      <button
        type="button"
        aria-expanded={open}
        className="flex h-8 w-full min-w-0 items-center gap-2 pr-3 pl-2 text-left text-xs -outline-offset-2 hover:bg-sunken pointer-coarse:h-10"
        onClick={() => setOpen(!open)}
      >
        <span
          className="flex min-w-0 flex-1 items-center gap-1.5"
          style={{ paddingLeft: Math.min(8, depthOf(pair.path)) * 14 }}
        >
          <ChevronRight
            size={13}
            className={clsx("shrink-0 text-muted transition-transform", open && "rotate-90")}
            aria-hidden="true"
          />
          <Icon size={13} className={clsx("shrink-0", tone)} aria-hidden="true" />
          <span
            className={clsx("min-w-0 truncate", pair.change === "removed" && "line-through decoration-muted")}
          >
            {run?.task.replace(/\s+/g, " ")}
          </span>
        </span>
        <span className={clsx("w-18 shrink-0 text-2xs", tone)}>{word}</span>
        <span className="w-14 shrink-0 text-right text-muted tabular max-sm:hidden">{spent(pair.a)}</span>
        <span className="w-14 shrink-0 text-right text-muted tabular max-sm:hidden">{spent(pair.b)}</span>
      </button>
      {open && <Details pair={pair} a={a} b={b} />}
    </li>
  );
}

/** The two trees laid over each other by the place of each run. */
export function RunPairs({ runs, a, b }: { runs: readonly RunPair[]; a: Side; b: Side }) {
  const [all, setAll] = useState(false);
  const [most, setMost] = useState(STEP);
  const ordered = useMemo(() => [...runs].sort(byPath), [runs]);
  const different = ordered.filter((pair) => pair.change !== "same");
  const shown = all ? ordered : different;
  const count = (change: Change) => ordered.filter((pair) => pair.change === change).length;
  const words = (["changed", "added", "removed", "same"] as const)
    .filter((change) => count(change) > 0)
    .map((change) => `${number(count(change))} ${LOOK[change][2]}`);
  return (
    <section aria-label="Runs">
      <div className="mb-1.5 flex items-baseline gap-3">
        <h2 className="text-base font-semibold">Runs</h2>
        <p className="min-w-0 flex-1 truncate text-xs text-muted tabular">{words.join(", ")}</p>
        {different.length < ordered.length && (
          <Button look="quiet" className="h-7 px-2" aria-pressed={all} onClick={() => setAll(!all)}>
            {all ? "Only the different ones" : `Show all ${number(ordered.length)}`}
          </Button>
        )}
      </div>
      {shown.length === 0 ? (
        <p className="text-sm text-muted">Both turns made the same runs with the same code and output.</p>
      ) : (
        <ul className="overflow-hidden rounded-lg border border-line bg-panel">
          {shown.slice(0, most).map((pair) => (
            <Pair key={pair.path} pair={pair} a={a} b={b} />
          ))}
        </ul>
      )}
      {shown.length > most && (
        <Button className="mt-2" onClick={() => setMost(most + STEP)}>
          Show {plural(Math.min(STEP, shown.length - most), "more run")}
        </Button>
      )}
    </section>
  );
}
