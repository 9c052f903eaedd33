import { memo, useCallback, useState } from "react";
import { DEMO_MODEL } from "@/shell/DemoChip";
import { useSelection } from "@/shell/selection";
import { CopyButton } from "@/ui/CopyButton";
import type { TurnView } from "@/workspace/state";
import { useWorkspace } from "@/workspace/store";
import { ActivityStrip } from "./ActivityStrip";
import { Answer } from "./Answer";
import { ContextChips } from "./ContextChips";
import { Outcome } from "./Outcome";
import { Sources } from "./Sources";
import { StepList } from "./StepList";
import { UserMessage } from "./UserMessage";

/** The answer of a turn: what its end says, or what has streamed so far. */
function useAnswer(turn: TurnView): { text: string; streaming: boolean } {
  const streamed = useWorkspace((state) => state.bench?.messages[turn.messages.at(-1) ?? ""]?.text ?? "");
  if (turn.status !== "running")
    return { text: turn.answer ?? (turn.status === "ok" ? streamed : ""), streaming: false };
  return { text: streamed, streaming: true };
}

function Notices({ turn }: { turn: TurnView }) {
  const shown = turn.notices.slice(-3);
  if (!shown.length) return null;
  return (
    <ul className="mb-2 space-y-0.5 text-xs text-muted">
      {shown.map((notice) => (
        <li key={notice.seq} className={notice.level === "error" ? "text-err" : "text-warn"}>
          {notice.message}
        </li>
      ))}
    </ul>
  );
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
  return (
    <article
      aria-label={`Turn: ${turn.question.slice(0, 80)}`}
      data-testid="turn"
      data-status={turn.status}
      className="mx-auto w-full max-w-[760px] px-4 pt-5"
    >
      <UserMessage text={turn.question}>
        {turn.contexts.length > 0 && <ContextChips contexts={turn.contexts} />}
      </UserMessage>
      <div className="pt-1.5">
        <ActivityStrip bench={bench} turn={turn} open={open} onToggle={() => setChosen(!open)} />
        {open && <StepList bench={bench} turn={turn} />}
        <div className="px-1.5 pt-1">
          <Notices turn={turn} />
          <div className="space-y-3">
            <Outcome turn={turn} />
            {text && <Answer text={text} streaming={streaming} citations={turn.citations} onCite={onCite} />}
          </div>
          {!streaming && text && (
            <div className="mt-2">
              <Sources citations={turn.citations} onCite={onCite} />
              <div className="mt-1 flex h-7 items-center gap-1 text-2xs text-muted">
                <CopyButton text={text} label="Copy answer" />
                <span title={new Date(turn.finished_ts ?? turn.ts).toLocaleString()}>
                  {new Date(turn.finished_ts ?? turn.ts).toLocaleTimeString([], {
                    hour: "2-digit",
                    minute: "2-digit",
                  })}
                </span>
                <span>· {turn.model === DEMO_MODEL ? "demo search program, no AI model" : turn.model}</span>
              </div>
            </div>
          )}
        </div>
      </div>
    </article>
  );
});
