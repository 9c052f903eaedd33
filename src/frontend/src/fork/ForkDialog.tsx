import { useQuery } from "@tanstack/react-query";
import { GitFork, SlidersHorizontal } from "lucide-react";
import { type FormEvent, useState } from "react";
import { explain } from "@/api/client";
import { useModels } from "@/api/queries";
import { readBlob } from "@/api/resources";
import { limitsOf } from "@/budget/inForce";
import { LimitFields } from "@/budget/LimitFields";
import { changedLimits } from "@/budget/limits";
import { unsound } from "@/budget/unsound";
import { isSame } from "@/compare/diffs";
import type { Limits, Text } from "@/generated/events";
import { type ForkTarget, useUi } from "@/shell/ui";
import type { ForkEdit } from "@/transport/frames";
import { useTurnActions } from "@/turns/useTurnActions";
import { Button } from "@/ui/Button";
import { Dialog } from "@/ui/Dialog";
import { Field, inputLook } from "@/ui/Field";
import { bytes, number } from "@/workspace/format";
import type { TurnView } from "@/workspace/state";
import { useWorkspace } from "@/workspace/store";
import { CodeEditor } from "./CodeEditor";

const WHOLE = 1_000_000;
/** The server takes no longer text. */
const MOST = 400_000;

/** The whole of a text: the journal holds only the head of a long one. */
function useWhole(text: Text | undefined) {
  const ref = text?.ref ?? null;
  const { data, error } = useQuery({
    queryKey: ["blob", ref],
    queryFn: () => readBlob(ref ?? "", 0, WHOLE),
    enabled: ref !== null,
    staleTime: Number.POSITIVE_INFINITY,
  });
  return { whole: ref === null ? (text?.head ?? "") : (data ?? null), error };
}

function ModelField(props: { label: string; value: string; onChange: (model: string) => void; id: string }) {
  const { data } = useModels();
  return (
    <>
      <Field
        label={props.label}
        list={props.id}
        value={props.value}
        onChange={(event) => props.onChange(event.target.value)}
      />
      <datalist id={props.id}>
        {data?.suggestions.map((known) => (
          <option key={known.model} value={known.model}>
            {known.label}
          </option>
        ))}
      </datalist>
    </>
  );
}

/** What is edited: the code of a cell, the prompt of a call, or (neither) the question. `text` is as it was. */
interface Edited {
  cell?: string;
  call?: string;
  text: string;
}

interface Wanted {
  text: string;
  model: string;
  sub_model: string;
  limits: Limits;
}

function editOf(turn: TurnView, edited: Edited, wanted: Wanted): ForkEdit {
  const limits = changedLimits(limitsOf(turn), wanted.limits);
  const { cell, call } = edited;
  const text = cell || call ? wanted.text : wanted.text.trim();
  const other = text !== edited.text && !(cell && isSame(text, edited.text));
  return {
    ...(other && cell ? { cell: { id: cell, code: text } } : {}),
    ...(other && call ? { prompt: { call, text } } : {}),
    ...(other && !cell && !call ? { question: text } : {}),
    ...(wanted.model.trim() && wanted.model !== turn.model ? { model: wanted.model.trim() } : {}),
    ...(wanted.sub_model.trim() && wanted.sub_model !== turn.sub_model
      ? { sub_model: wanted.sub_model.trim() }
      : {}),
    ...(Object.keys(limits).length ? { limits } : {}),
  };
}

function More({ wanted, change }: { wanted: Wanted; change: (more: Partial<Wanted>) => void }) {
  return (
    <details>
      <summary className="flex w-fit items-center gap-1.5 text-xs text-muted hover:text-text">
        <SlidersHorizontal size={13} aria-hidden="true" />
        Model and limits
      </summary>
      <div className="mt-2 grid grid-cols-2 gap-2 max-sm:grid-cols-1">
        <ModelField
          id="fork-model"
          label="Model"
          value={wanted.model}
          onChange={(model) => change({ model })}
        />
        <ModelField
          id="fork-sub-model"
          label="Model of sub-runs"
          value={wanted.sub_model}
          onChange={(sub_model) => change({ sub_model })}
        />
      </div>
      <div className="mt-2 grid grid-cols-[repeat(auto-fill,minmax(118px,1fr))] gap-2">
        <LimitFields limits={wanted.limits} onChange={(limits) => change({ limits })} />
      </div>
    </details>
  );
}

interface PartProps {
  edited: Edited;
  text: string;
  onChange: (text: string) => void;
}

const plain = `${inputLook} h-auto! resize-y py-1.5`;

/** The one text that a fork is about. */
function Part({ edited, text, onChange }: PartProps) {
  if (edited.cell)
    return (
      <div>
        <p className="mb-1 text-sm font-medium">Code of the cell</p>
        <CodeEditor label="Code of the cell" value={text} onChange={onChange} />
        <p className="mt-1 text-2xs text-muted">
          Everything before this cell is taken from the journal; from this cell on the run goes its own way.
        </p>
      </div>
    );
  const prompt = edited.call !== undefined;
  return (
    <div>
      <label htmlFor="fork-text" className="mb-1 block text-sm font-medium">
        {prompt ? "Prompt of the call" : "Question"}
      </label>
      <textarea
        id="fork-text"
        data-testid={prompt ? "fork-prompt" : "fork-question"}
        rows={prompt ? 18 : 4}
        spellCheck={!prompt}
        className={prompt ? `${plain} font-mono text-xs leading-[19px]` : `${plain} leading-5`}
        value={text}
        onChange={(event) => onChange(event.target.value)}
      />
      {prompt && (
        <p className="mt-1 text-2xs text-muted">
          Everything before this call is taken from the journal; the call is made with these words, and the
          run goes on from its answer. Lines such as [system] and [user] begin a message: keep them. Without
          them the text takes the place of the last message.
        </p>
      )}
    </div>
  );
}

const close = () => useUi.setState({ forking: null });

function Form({ turn, edited }: { turn: TurnView; edited: Edited }) {
  const { fork } = useTurnActions();
  const [busy, setBusy] = useState(false);
  const [wanted, setWanted] = useState<Wanted>({
    text: edited.text,
    model: turn.model,
    sub_model: turn.sub_model,
    limits: limitsOf(turn),
  });
  const change = (more: Partial<Wanted>) => setWanted((before) => ({ ...before, ...more }));
  const edit = editOf(turn, edited, wanted);
  const nothing = Object.keys(edit).length === 0;
  const long = wanted.text.length > MOST;
  const wrong = unsound(wanted.limits);
  const said = Object.keys(edit).join(", ").replace("sub_model", "model of sub-runs");
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    if (await fork(turn, edit)) close();
    else setBusy(false);
  };
  return (
    <form noValidate onSubmit={submit} className="flex min-h-0 flex-1 flex-col" data-testid="fork-form">
      <div className="min-h-0 flex-1 space-y-3 overflow-y-auto p-4">
        <Part edited={edited} text={wanted.text} onChange={(text) => change({ text })} />
        <More wanted={wanted} change={change} />
      </div>
      <div className="flex items-center gap-2 border-t px-4 py-2.5">
        <p className="min-w-0 flex-1 text-2xs text-muted">
          {long
            ? `Too long: at most ${number(MOST)} characters.`
            : wrong
              ? "A limit must be a number above 0."
              : nothing
                ? "Nothing is different yet."
                : `Different: ${said}`}
        </p>
        <Button look="quiet" onClick={close}>
          Cancel
        </Button>
        <Button
          type="submit"
          look="primary"
          disabled={busy || nothing || long || wrong || !wanted.text.trim()}
          icon={<GitFork size={13} aria-hidden="true" />}
          data-testid="fork-submit"
        >
          {edited.cell || edited.call ? "Run from here in a fork" : "Fork"}
        </Button>
      </div>
    </form>
  );
}

/**
 * A new session that shares the past of this one and goes its own way: another question, another cell, another prompt,
 * model, limits.
 */
export default function ForkDialog({ target }: { target: ForkTarget }) {
  const turn = useWorkspace((state) => state.bench?.turns[target.turn]);
  const cell = useWorkspace((state) => state.bench?.cells[target.cell ?? ""]);
  const call = useWorkspace((state) => state.bench?.calls[target.call ?? ""]);
  const source = cell?.code ?? call?.prompt;
  const { whole, error } = useWhole(source);
  if (!turn) return null;
  const what = cell ? "this cell" : call ? "another prompt" : "this question";
  return (
    <Dialog
      open
      width={source ? 720 : 560}
      onClose={close}
      title={call ? `Fork with ${what}` : `Fork from ${what}`}
      description="Makes a new session; this one stays as it is."
    >
      {error && <p className="p-4 text-sm text-err">{explain(error).message}</p>}
      {whole === null ? (
        !error && <p className="p-4 text-sm text-muted">Reading the {cell ? "code" : "prompt"}</p>
      ) : (source?.bytes ?? 0) > WHOLE ? (
        <p className="p-4 text-sm">
          This text is too long to be edited here: {bytes(source?.bytes ?? 0)}, and a fork takes at most{" "}
          {number(MOST)} characters.
        </p>
      ) : (
        <Form
          turn={turn}
          edited={{
            ...(cell ? { cell: cell.id } : {}),
            ...(call ? { call: call.id } : {}),
            text: source ? whole : turn.question,
          }}
        />
      )}
    </Dialog>
  );
}
