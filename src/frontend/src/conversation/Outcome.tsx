import { Link } from "@tanstack/react-router";
import { CircleAlert, Gauge, GitFork, Play, RotateCcw } from "lucide-react";
import { useState } from "react";
import { limitsOf } from "@/budget/inForce";
import { LimitsForm } from "@/budget/LimitsForm";
import { UNIT_WORDS } from "@/budget/limits";
import type { Limits } from "@/generated/events";
import { useSelection } from "@/shell/selection";
import { setInspector } from "@/shell/ui";
import { runName } from "@/tree/TreeRow";
import { resumes, successor } from "@/turns/resumes";
import { useTurnActions } from "@/turns/useTurnActions";
import { Button } from "@/ui/Button";
import { CopyButton } from "@/ui/CopyButton";
import type { RunView, TurnView, Workbench } from "@/workspace/state";

interface OutcomeProps {
  bench: Workbench;
  turn: TurnView;
}

function Card(props: {
  tone: "err" | "warn";
  icon?: typeof Gauge;
  title: string;
  children: React.ReactNode;
}) {
  const err = props.tone === "err";
  const Icon = props.icon ?? CircleAlert;
  return (
    <div
      role={err ? "alert" : "note"}
      data-testid="outcome"
      className={err ? "flex gap-2.5 rounded-lg bg-err-soft p-3" : "flex gap-2.5 rounded-lg bg-warn-soft p-3"}
    >
      <Icon
        size={16}
        className={err ? "mt-0.5 shrink-0 text-err" : "mt-0.5 shrink-0 text-warn"}
        aria-hidden="true"
      />
      <div className="min-w-0 flex-1">
        <p className="font-medium">{props.title}</p>
        <div className="text-sm [overflow-wrap:anywhere]">{props.children}</div>
      </div>
    </div>
  );
}

/** The run that a failure or a limit belongs to: the deepest one that ended so. */
function culprit(bench: Workbench, turn: TurnView): RunView | null {
  let found: RunView | null = null;
  for (const id of turn.runs) {
    const run = bench.runs[id];
    if (run?.status !== turn.status) continue;
    if (turn.limit && run.limit && run.limit !== turn.limit) continue;
    if (!found || run.depth > found.depth) found = run;
  }
  return found;
}

function Culprit({ bench, turn }: OutcomeProps) {
  const [, select] = useSelection();
  const run = culprit(bench, turn);
  if (!run) return null;
  return (
    <p className="mt-0.5 flex min-w-0 gap-1 text-xs">
      <span className="shrink-0 text-muted">In run</span>
      <button
        type="button"
        className="min-w-0 truncate text-accent underline underline-offset-2"
        onClick={() => {
          select({ turn: turn.id, run: run.id, cell: undefined });
          setInspector(true);
        }}
      >
        {runName(run)}
      </button>
    </p>
  );
}

/** Where a turn was gone on with already. */
function Successor({ bench, turn }: OutcomeProps) {
  const [, select] = useSelection();
  const next = successor(bench, turn);
  if (!next) return null;
  return (
    <p className="mt-1 text-sm" data-testid="successor">
      Resumed in{" "}
      <button
        type="button"
        className="text-accent underline underline-offset-2"
        onClick={() => select({ turn: next, run: undefined, cell: undefined })}
      >
        turn {bench.turn_order.indexOf(next) + 1}
      </button>
    </p>
  );
}

function Actions({ bench, turn }: OutcomeProps) {
  const { resume, retry, openFork } = useTurnActions();
  const [busy, setBusy] = useState(false);
  const once = async (what: Promise<boolean>) => {
    setBusy(true);
    await what;
    setBusy(false);
  };
  const go = resumes(bench, turn) === "now" && (
    <Button
      look="primary"
      data-testid="resume"
      disabled={busy}
      title="Finished calls come from the journal; only the rest is done"
      icon={<Play size={13} aria-hidden="true" />}
      onClick={() => void once(resume(turn))}
    >
      Resume
    </Button>
  );
  const again = (
    <Button
      disabled={busy}
      title="The same question from the beginning"
      icon={<RotateCcw size={13} aria-hidden="true" />}
      onClick={() => void once(retry(turn))}
    >
      Ask again
    </Button>
  );
  return (
    <>
      <Successor bench={bench} turn={turn} />
      <div className="mt-2.5 flex flex-wrap gap-2">
        {go}
        {again}
        <Button
          look="quiet"
          icon={<GitFork size={13} aria-hidden="true" />}
          onClick={() => openFork(turn.id)}
        >
          Fork
        </Button>
      </div>
    </>
  );
}

function Failed({ bench, turn }: OutcomeProps) {
  const { error } = turn;
  const details = [error?.code, error?.message, error?.hint, turn.id].filter(Boolean).join("\n");
  return (
    <Card tone="err" title={error?.message ?? "The turn failed."}>
      {error?.hint && <p>{error.hint}</p>}
      <p className="mt-0.5 flex items-center gap-1 font-mono text-2xs text-muted">
        {error?.code}
        <CopyButton text={details} label="Copy details" />
      </p>
      <Culprit bench={bench} turn={turn} />
      {error?.code.startsWith("model") && (
        <Link to="/settings/models" className="mt-1 inline-block text-accent underline underline-offset-2">
          Open model settings
        </Link>
      )}
      <Actions bench={bench} turn={turn} />
    </Card>
  );
}

function AtLimit({ bench, turn }: OutcomeProps) {
  const { resume, openFork } = useTurnActions();
  const [done, setDone] = useState(false);
  const how = resumes(bench, turn);
  const unit = turn.limit ? UNIT_WORDS[turn.limit] : "the budget";
  const go = (limits: Limits) => {
    setDone(true);
    void resume(turn, limits).then((ok) => setDone(ok));
  };
  return (
    <Card tone="warn" icon={Gauge} title={`The limit on ${unit} was reached`}>
      <p>
        {turn.answer
          ? "The answer below is partial: it rests on what was read until then."
          : "No partial answer could be made; what was reached is in the tree."}
      </p>
      <Culprit bench={bench} turn={turn} />
      <Successor bench={bench} turn={turn} />
      {how && !done && (
        <details className="mt-2 open:[&>summary]:mb-2" data-testid="raise">
          <summary className="inline-flex h-8 list-none items-center rounded-md border border-line bg-panel px-3 text-sm font-medium hover:bg-sunken pointer-coarse:h-10">
            Raise and continue
          </summary>
          <LimitsForm
            label="Limits to resume with"
            limits={limitsOf(turn)}
            reached={turn.limit}
            must={how === "raised"}
            submit="Continue"
            always
            onSubmit={go}
          >
            <Button
              look="quiet"
              icon={<GitFork size={13} aria-hidden="true" />}
              onClick={() => openFork(turn.id)}
            >
              Fork instead
            </Button>
          </LimitsForm>
        </details>
      )}
    </Card>
  );
}

/** How a turn ended when it was not simply answered: what happened, where, and what to do. */
export default function Outcome(props: OutcomeProps) {
  const { bench, turn } = props;
  if (turn.status === "failed") return <Failed {...props} />;
  if (turn.status === "limit") return <AtLimit {...props} />;
  if (turn.status === "interrupted") {
    return (
      <Card tone="warn" title="The server was restarted while this turn ran">
        What was reached is kept.
        {resumes(bench, turn) && " Resuming takes the finished calls from the journal and does the rest."}
        <Actions bench={bench} turn={turn} />
      </Card>
    );
  }
  if (turn.status === "cancelled") {
    return (
      <div className="text-sm text-muted" data-testid="outcome">
        You stopped this turn. What was reached is in the tree.
        <Actions bench={bench} turn={turn} />
      </div>
    );
  }
  return null;
}
