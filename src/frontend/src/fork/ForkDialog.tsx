import { useQuery } from "@tanstack/react-query";
import { GitFork, SlidersHorizontal } from "lucide-react";
import { type FormEvent, useState } from "react";
import { explain } from "@/api/client";
import { useModels } from "@/api/queries";
import { readBlob } from "@/api/resources";
import { LimitFields } from "@/budget/LimitFields";
import { changedLimits } from "@/budget/limits";
import { limitsOf } from "@/budget/meters";
import { isSame } from "@/compare/diffs";
import type { Limits } from "@/generated/events";
import { type ForkTarget, useUi } from "@/shell/ui";
import type { ForkEdit } from "@/transport/frames";
import { useTurnActions } from "@/turns/useTurnActions";
import { Button } from "@/ui/Button";
import { Dialog } from "@/ui/Dialog";
import { Field, inputLook } from "@/ui/Field";
import type { CellView, TurnView } from "@/workspace/state";
import { useWorkspace } from "@/workspace/store";
import { CodeEditor } from "./CodeEditor";

const WHOLE = 1_000_000;

/** The whole code of a cell: the journal holds only the head of a long one. */
function useCode(cell: CellView | undefined) {
  const ref = cell?.code.ref ?? null;
  const { data, error } = useQuery({
    queryKey: ["blob", ref],
    queryFn: () => readBlob(ref ?? "", 0, WHOLE),
    enabled: ref !== null,
    staleTime: Number.POSITIVE_INFINITY,
  });
  return { code: ref === null ? (cell?.code.head ?? "") : (data ?? null), error };
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

interface Wanted {
  question: string;
  code: string | null;
  model: string;
  sub_model: string;
  limits: Limits;
}

function editOf(turn: TurnView, cell: CellView | undefined, code: string, wanted: Wanted): ForkEdit {
  const limits = changedLimits(limitsOf(turn), wanted.limits);
  const text = wanted.code ?? code;
  return {
    ...(!cell && wanted.question.trim() !== turn.question ? { question: wanted.question.trim() } : {}),
    ...(cell && !isSame(text, code) ? { cell: { id: cell.id, code: text } } : {}),
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

const close = () => useUi.setState({ forking: null });

function Form({ turn, cell, code }: { turn: TurnView; cell: CellView | undefined; code: string }) {
  const { fork } = useTurnActions();
  const [busy, setBusy] = useState(false);
  const [wanted, setWanted] = useState<Wanted>({
    question: turn.question,
    code: null,
    model: turn.model,
    sub_model: turn.sub_model,
    limits: limitsOf(turn),
  });
  const change = (more: Partial<Wanted>) => setWanted((before) => ({ ...before, ...more }));
  const edit = editOf(turn, cell, code, wanted);
  const nothing = Object.keys(edit).length === 0;
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    if (await fork(turn, edit)) close();
    else setBusy(false);
  };
  return (
    <form noValidate onSubmit={submit} className="flex min-h-0 flex-1 flex-col" data-testid="fork-form">
      <div className="min-h-0 flex-1 space-y-3 overflow-y-auto p-4">
        {cell ? (
          <div>
            <p className="mb-1 text-sm font-medium">Code of the cell</p>
            <CodeEditor
              label="Code of the cell"
              value={wanted.code ?? code}
              onChange={(text) => change({ code: text })}
            />
            <p className="mt-1 text-2xs text-muted">
              Everything before this cell is taken from the journal; from this cell on the run goes its own
              way.
            </p>
          </div>
        ) : (
          <div>
            <label htmlFor="fork-question" className="mb-1 block text-sm font-medium">
              Question
            </label>
            <textarea
              id="fork-question"
              data-testid="fork-question"
              rows={4}
              className={`${inputLook} h-auto! resize-y py-1.5 leading-5`}
              value={wanted.question}
              onChange={(event) => change({ question: event.target.value })}
            />
          </div>
        )}
        <More wanted={wanted} change={change} />
      </div>
      <div className="flex items-center gap-2 border-t px-4 py-2.5">
        <p className="min-w-0 flex-1 text-2xs text-muted">
          {nothing
            ? "Nothing is different yet."
            : `Different: ${Object.keys(edit).join(", ").replace("sub_model", "model of sub-runs")}`}
        </p>
        <Button look="quiet" onClick={close}>
          Cancel
        </Button>
        <Button
          type="submit"
          look="primary"
          disabled={busy || nothing || (!cell && !wanted.question.trim())}
          icon={<GitFork size={13} aria-hidden="true" />}
          data-testid="fork-submit"
        >
          {cell ? "Run from here in a fork" : "Fork"}
        </Button>
      </div>
    </form>
  );
}

/** A new session that shares the past of this one and goes its own way: another question, another cell, model, limits. */
export default function ForkDialog({ target }: { target: ForkTarget }) {
  const turn = useWorkspace((state) => state.bench?.turns[target.turn]);
  const cell = useWorkspace((state) => state.bench?.cells[target.cell ?? ""]);
  const { code, error } = useCode(cell);
  if (!turn) return null;
  return (
    <Dialog
      open
      width={cell ? 720 : 560}
      onClose={close}
      title={cell ? "Fork from this cell" : "Fork from this question"}
      description="Makes a new session; this one stays as it is."
    >
      {error && <p className="p-4 text-sm text-err">{explain(error).message}</p>}
      {code === null ? (
        !error && <p className="p-4 text-sm text-muted">Reading the code</p>
      ) : (
        <Form turn={turn} cell={cell} code={code} />
      )}
    </Dialog>
  );
}
