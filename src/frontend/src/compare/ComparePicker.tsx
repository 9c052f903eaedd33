import { useNavigate } from "@tanstack/react-router";
import { GitCompareArrows } from "lucide-react";
import { type FormEvent, useState } from "react";
import { useUi } from "@/shell/ui";
import { Button } from "@/ui/Button";
import { Dialog } from "@/ui/Dialog";
import { inputLook } from "@/ui/Field";
import { StatusIcon } from "@/ui/StatusIcon";
import { relative } from "@/workspace/format";
import type { Workbench } from "@/workspace/state";
import { useWorkspace } from "@/workspace/store";
import { turnOf } from "./shape";

const close = () => useUi.setState({ comparing: null });

interface Choice {
  id: string;
  words: string;
  note: string;
  status: "running" | "ok" | "failed" | "cancelled" | "limit" | "interrupted" | null;
}

/** The other turns of this session, and the one elsewhere that this one was forked from. */
function choices(bench: Workbench, turn: string): Choice[] {
  const out: Choice[] = bench.turn_order.flatMap((id, index) => {
    const other = bench.turns[id];
    if (!other || id === turn) return [];
    const note = `turn ${index + 1}, ${relative(other.ts, Date.now())}`;
    return [{ id, words: other.question, note, status: other.status }];
  });
  const origin = bench.turns[turn]?.origin;
  if (origin && !bench.turns[origin.turn]) {
    const words = `The turn it was ${{ fork: "forked", replay: "replayed", resume: "resumed" }[origin.kind]} from`;
    out.unshift({ id: origin.turn, words, note: "another session", status: null });
  }
  return out;
}

/** Which turn to set beside this one. */
export default function ComparePicker({ turn }: { turn: string }) {
  const bench = useWorkspace((state) => state.bench);
  const navigate = useNavigate();
  const [text, setText] = useState("");
  if (!bench) return null;
  const go = (other: string) => {
    close();
    void navigate({ to: "/compare", search: { a: other, b: turn } });
  };
  const list = choices(bench, turn);
  const pasted = turnOf(text);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (pasted) go(pasted);
  };
  return (
    <Dialog
      open
      width={520}
      onClose={close}
      title="Compare with"
      description={bench.turns[turn]?.question ?? ""}
    >
      <ul className="min-h-0 flex-1 overflow-y-auto p-2" aria-label="Turns">
        {list.map((choice) => (
          <li key={choice.id}>
            <button
              type="button"
              data-testid="compare-choice"
              className="flex w-full min-w-0 items-center gap-2 rounded-md px-2 py-1.5 text-left hover:bg-sunken"
              onClick={() => go(choice.id)}
            >
              {choice.status && <StatusIcon status={choice.status} size={13} />}
              <span className="min-w-0 flex-1 truncate text-sm">{choice.words}</span>
              <span className="shrink-0 text-2xs text-muted">{choice.note}</span>
            </button>
          </li>
        ))}
        {list.length === 0 && (
          <li className="px-2 py-1.5 text-sm text-muted">This session has no other turn yet.</li>
        )}
      </ul>
      <form onSubmit={submit} className="flex gap-2 border-t p-3">
        <input
          aria-label="Link to another turn"
          placeholder="Or paste a link to a turn of any session"
          className={inputLook}
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
        <Button type="submit" disabled={!pasted} icon={<GitCompareArrows size={13} aria-hidden="true" />}>
          Compare
        </Button>
      </form>
    </Dialog>
  );
}
