import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { ArrowLeftRight, GitCompareArrows } from "lucide-react";
import { useEffect } from "react";
import { explain } from "@/api/client";
import { live } from "@/app";
import { Button } from "@/ui/Button";
import { StatusIcon } from "@/ui/StatusIcon";
import { Deltas } from "./Deltas";
import { DiffText } from "./DiffText";
import { isSame } from "./diffs";
import { RunPairs } from "./RunPairs";
import { getDiff, type Side, type TurnDiff } from "./shape";

function SideCard({ name, side }: { name: string; side: Side }) {
  return (
    <section
      aria-label={`Turn ${name}`}
      className="min-w-0 flex-1 rounded-lg border border-line bg-panel p-3"
    >
      <p className="flex items-center gap-2 text-xs text-muted">
        <span className="grid size-5 place-items-center rounded-md bg-accent-soft font-semibold text-accent">
          {name}
        </span>
        <StatusIcon status={side.status} size={13} />
        <span className="min-w-0 truncate">{side.model}</span>
        <Link
          to="/s/$sid"
          params={{ sid: side.session }}
          search={{ turn: side.turn }}
          className="ml-auto shrink-0 text-accent underline underline-offset-2"
        >
          Open
        </Link>
      </p>
      <p className="mt-1.5 line-clamp-3 text-sm [overflow-wrap:anywhere]">{side.question}</p>
    </section>
  );
}

function Answers({ a, b }: TurnDiff) {
  const [before, after] = [a.answer ?? "", b.answer ?? ""];
  return (
    <section aria-label="Answers">
      <h2 className="mb-1.5 text-base font-semibold">Answers</h2>
      {isSame(before, after) ? (
        <p className="text-sm text-muted">Both turns gave the same answer.</p>
      ) : (
        <DiffText before={before} after={after} label="Changes of the answer" />
      )}
    </section>
  );
}

function Comparison({ diff }: { diff: TurnDiff }) {
  const { a, b } = diff;
  return (
    <>
      <div className="flex gap-3 max-sm:flex-col">
        <SideCard name="A" side={a} />
        <SideCard name="B" side={b} />
      </div>
      <section aria-label="In numbers">
        <h2 className="mb-1 text-base font-semibold">In numbers</h2>
        <Deltas a={a} b={b} />
      </section>
      {a.question !== b.question && (
        <section aria-label="Questions">
          <h2 className="mb-1.5 text-base font-semibold">Questions</h2>
          <DiffText before={a.question} after={b.question} label="Changes of the question" />
        </section>
      )}
      <Answers {...diff} />
      <RunPairs runs={diff.runs} a={a} b={b} />
    </>
  );
}

/** Two turns side by side: numbers, answers, and their trees run by run with the code of the cells. */
export function ComparePage() {
  const { a = "", b = "" } = useSearch({ strict: false }) as { a?: string; b?: string };
  const navigate = useNavigate();
  useEffect(() => live.show(null), []);
  const { data, error, isPending } = useQuery({
    queryKey: ["diff", a, b],
    queryFn: () => getDiff(a, b),
    enabled: a !== "" && b !== "",
  });
  return (
    <main
      id="main"
      tabIndex={-1}
      aria-label="Comparison"
      className="min-h-0 min-w-0 flex-1 overflow-y-auto"
      data-testid="compare-page"
    >
      <div className="mx-auto w-full max-w-[960px] space-y-6 px-4 py-6">
        <div className="flex items-center gap-3">
          <h1 className="flex min-w-0 flex-1 items-center gap-2 text-xl font-semibold">
            <GitCompareArrows size={20} className="text-accent" aria-hidden="true" />
            Compare two turns
          </h1>
          {data && (
            <Button
              icon={<ArrowLeftRight size={13} aria-hidden="true" />}
              onClick={() => void navigate({ to: "/compare", search: { a: b, b: a } })}
            >
              Swap
            </Button>
          )}
        </div>
        {(!a || !b) && (
          <p className="text-sm text-muted">
            Choose “Compare with…” in the menu of a turn: the two turns stand here side by side.
          </p>
        )}
        {error && (
          <p role="alert" className="rounded-lg bg-err-soft p-3 text-sm">
            {explain(error).message} {explain(error).hint}
          </p>
        )}
        {isPending && a && b && <p className="text-sm text-muted">Comparing</p>}
        {data && <Comparison diff={data} />}
      </div>
    </main>
  );
}
