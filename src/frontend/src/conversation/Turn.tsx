import { lazy, memo, Suspense, useCallback, useState } from "react";
import { artifactsOf } from "@/artifacts/chips";
import { DEMO_MODEL } from "@/shell/DemoChip";
import { useSelection } from "@/shell/selection";
import { TurnMenuButton } from "@/turns/TurnMenuButton";
import { CopyButton } from "@/ui/CopyButton";
import type { TurnView, Workbench } from "@/workspace/state";
import { useWorkspace } from "@/workspace/store";
import { ActivityStrip } from "./ActivityStrip";
import { Answer } from "./Answer";
import { ContextChips } from "./ContextChips";
import { Sources } from "./Sources";
import { StepList } from "./StepList";
import { UserMessage } from "./UserMessage";

// What only some turns have is fetched for them.
const Outcome = lazy(() => import("./Outcome"));
const Approvals = lazy(() => import("@/approvals/Approvals"));
const OriginLine = lazy(() => import("@/turns/OriginLine"));
const ArtifactChips = lazy(() => import("@/artifacts/ArtifactChips"));

/** The answer of a turn: what its end says, or what has streamed so far. */
function useAnswer(turn: TurnView): { text: string; streaming: boolean } {
  const streamed = useWorkspace((state) => state.bench?.messages[turn.messages.at(-1) ?? ""]?.text ?? "");
  if (turn.status !== "running")
    return { text: turn.answer ?? (turn.status === "ok" ? streamed : ""), streaming: false };
  return { text: streamed, streaming: true };
}

const TONE = { error: "text-err", warning: "text-warn", info: "" } as const;

function Notices({ turn }: { turn: TurnView }) {
  const shown = turn.notices.slice(-3);
  if (!shown.length) return null;
  return (
    <ul className="mb-2 space-y-0.5 text-xs text-muted">
      {shown.map((notice) => (
        <li key={notice.seq} className={TONE[notice.level]}>
          {notice.message}
        </li>
      ))}
    </ul>
  );
}

function Footer({ turn, text }: { turn: TurnView; text: string }) {
  const ended = new Date(turn.finished_ts ?? turn.ts);
  return (
    <div className="mt-1 flex h-7 items-center gap-1 text-2xs text-muted pointer-coarse:h-10">
      {text && <CopyButton text={text} label="Copy answer" />}
      <TurnMenuButton turn={turn} align="start" />
      <span title={ended.toLocaleString()}>
        {ended.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}
      </span>
      <span className="truncate">
        · {turn.model === DEMO_MODEL ? "demo search program, no AI model" : turn.model}
      </span>
    </div>
  );
}

function hasApprovals(bench: Workbench, turn: string): boolean {
  return Object.values(bench.approvals).some((approval) => approval.turn === turn);
}

export const Turn = memo(function Turn({ turn }: { turn: TurnView }) {
  const bench = useWorkspace((state) => state.bench);
  const [chosen, setChosen] = useState<boolean | null>(null);
  const [, select] = useSelection();
  const { text, streaming } = useAnswer(turn);
  const onCite = useCallback((cite: number) => select({ turn: turn.id, cite }), [select, turn.id]);
  if (!bench) return null;
  // Until the answer begins, the steps are what there is to see.
  const open = chosen ?? (streaming && !text);
  const artifacts = artifactsOf(bench, turn.id);
  return (
    <article
      aria-label={`Turn: ${turn.question.slice(0, 80)}`}
      data-testid="turn"
      data-status={turn.status}
      data-turn={turn.id}
      className="mx-auto w-full max-w-[760px] px-4 pt-5"
    >
      {turn.origin && (
        <div className="min-h-6">
          <Suspense>
            <OriginLine bench={bench} turn={turn} />
          </Suspense>
        </div>
      )}
      <UserMessage text={turn.question} turn={turn.id}>
        {turn.contexts.length > 0 && <ContextChips contexts={turn.contexts} />}
      </UserMessage>
      <div className="pt-1.5">
        <ActivityStrip bench={bench} turn={turn} open={open} onToggle={() => setChosen(!open)} />
        {open && <StepList bench={bench} turn={turn} />}
        <div className="px-1.5 pt-1">
          <Notices turn={turn} />
          <Suspense>
            {hasApprovals(bench, turn.id) && <Approvals bench={bench} turn={turn} />}
            {turn.status !== "ok" && turn.status !== "running" && (
              <div className={text ? "mb-3" : undefined}>
                <Outcome bench={bench} turn={turn} />
              </div>
            )}
          </Suspense>
          {text && <Answer text={text} streaming={streaming} citations={turn.citations} onCite={onCite} />}
          {!streaming && text && (
            <div className="mt-2">
              <Sources citations={turn.citations} onCite={onCite} />
            </div>
          )}
          <Suspense>{artifacts.length > 0 && <ArtifactChips artifacts={artifacts} />}</Suspense>
          {!streaming && <Footer turn={turn} text={text} />}
        </div>
      </div>
    </article>
  );
});
