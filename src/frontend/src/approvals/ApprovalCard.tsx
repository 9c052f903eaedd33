import { Globe, Hand, Layers, MessageCircleQuestion, Receipt, Wrench } from "lucide-react";
import { type KeyboardEvent, useEffect, useRef, useState } from "react";
import { live } from "@/app";
import type { ApprovalKind } from "@/generated/events";
import { BlobText } from "@/inspector/BlobText";
import { useSelection } from "@/shell/selection";
import { setInspector } from "@/shell/ui";
import { runName } from "@/tree/TreeRow";
import { Button } from "@/ui/Button";
import { inputLook } from "@/ui/Field";
import { useNow } from "@/ui/useNow";
import { clock } from "@/workspace/format";
import type { ApprovalView, TurnView, Workbench } from "@/workspace/state";
import { AtLimit } from "./AtLimit";
import { answerOfKey, KINDS } from "./answers";
import { Choices } from "./Choices";

const ICONS: Record<ApprovalKind, typeof Hand> = {
  question: MessageCircleQuestion,
  tool: Wrench,
  host: Globe,
  cost: Receipt,
  depth: Layers,
  limit: Hand,
};

interface CardProps {
  bench: Workbench;
  turn: TurnView;
  approval: ApprovalView;
}

function Deadline({ approval }: { approval: ApprovalView }) {
  const now = useNow(approval.deadline !== null, 1_000);
  if (approval.deadline === null) return <span>Waits until you answer</span>;
  const left = approval.deadline - now;
  const then =
    approval.otherwise === null ? "it goes on without an answer" : `“${approval.otherwise}” is taken`;
  return (
    <span data-testid="approval-deadline" className={left < 60_000 ? "text-warn" : undefined}>
      {left > 0 ? `${clock(left)} left, then ${then}` : `Time is up: ${then}`}
    </span>
  );
}

function FreeText({ onAnswer }: { onAnswer: (answer: string) => void }) {
  const [text, setText] = useState("");
  const send = () => text.trim() && onAnswer(text.trim());
  return (
    <form
      className="mt-2.5 flex items-end gap-2"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        aria-label="Your answer"
        rows={1}
        maxLength={20_000}
        placeholder="Your answer"
        data-testid="approval-text"
        className={`${inputLook} field-sizing-content max-h-40 min-h-8 resize-none py-1`}
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
          event.preventDefault();
          send();
        }}
      />
      <Button type="submit" look="primary" disabled={!text.trim()}>
        Answer
      </Button>
    </form>
  );
}

function typing(): boolean {
  return /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");
}

/** A run waits for a person: what it asks, what it would do, how long it waits, and the ways to answer. */
export function ApprovalCard(props: CardProps) {
  const { bench, turn, approval } = props;
  const [, select] = useSelection();
  const card = useRef<HTMLDivElement>(null);
  const [sent, setSent] = useState(false);
  const Icon = ICONS[approval.kind];
  const run = bench.runs[approval.run ?? ""];
  // The question takes the focus when it appears, unless the person is busy elsewhere on the page.
  useEffect(() => {
    const { activeElement, body } = document;
    if (!activeElement || activeElement === body || activeElement.id === "main")
      card.current?.focus({ preventScroll: true });
  }, []);
  const answer = async (text: string) => {
    if (!live.session || sent) return;
    setSent(true);
    const args = { turn: turn.id, approval: approval.id, answer: text };
    const { ok } = await live.command(live.session, { op: "approve", args });
    if (!ok) setSent(false);
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing()) return;
    const text = answerOfKey(event.key, approval.choices);
    if (text === null || approval.kind === "limit") return;
    event.preventDefault();
    event.stopPropagation();
    void answer(text);
  };
  return (
    <div
      ref={card}
      role="group"
      tabIndex={-1}
      data-approval={approval.id}
      data-testid="approval"
      aria-label={`${KINDS[approval.kind]}: ${approval.question.slice(0, 120)}`}
      onKeyDown={onKey}
      className="rounded-lg border border-warn bg-warn-soft p-3"
    >
      <p className="flex flex-wrap items-center gap-x-1.5 text-2xs text-muted tabular">
        <Icon size={13} className="text-warn" aria-hidden="true" />
        <span className="font-medium text-warn">{KINDS[approval.kind]}</span>
        <span className="flex-1" />
        <Deadline approval={approval} />
      </p>
      <p className="mt-1.5 text-base font-medium whitespace-pre-wrap [overflow-wrap:anywhere]">
        {approval.question}
      </p>
      {run?.parent && (
        <button
          type="button"
          className="max-w-full truncate text-2xs text-muted underline underline-offset-2 hover:text-text"
          onClick={() => {
            select({ turn: turn.id, run: run.id, cell: undefined });
            setInspector(true);
          }}
        >
          asked by {runName(run)}
        </button>
      )}
      {approval.detail && (
        <details className="mt-1.5 text-xs">
          <summary className="text-muted hover:text-text">What it would do</summary>
          <div className="mt-1.5">
            <BlobText text={approval.detail} label="detail" />
          </div>
        </details>
      )}
      <fieldset disabled={sent} className="min-w-0">
        <legend className="sr-only">Answers</legend>
        {approval.kind === "limit" ? (
          <AtLimit turn={turn} approval={approval} onAnswer={(text) => void answer(text)} />
        ) : approval.choices.length > 0 ? (
          <Choices approval={approval} onAnswer={(text) => void answer(text)} />
        ) : (
          <FreeText onAnswer={(text) => void answer(text)} />
        )}
      </fieldset>
    </div>
  );
}
