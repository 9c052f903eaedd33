import { useQuery } from "@tanstack/react-query";
import { clsx } from "clsx";
import { Bot, PencilLine, Plus, Undo2, User } from "lucide-react";
import { type FormEvent, useState } from "react";
import { live } from "@/app";
import { DiffText } from "@/compare/DiffText";
import { toast } from "@/shell/ui";
import { Button, IconButton } from "@/ui/Button";
import { inputLook } from "@/ui/Field";
import { useNow } from "@/ui/useNow";
import { number, relative } from "@/workspace/format";
import type { MemoryEdit, Workbench } from "@/workspace/state";
import { type Block, blocksOf, getMemory, history, undoable } from "./memory";

async function save(sid: string, block: string, text: string | null): Promise<boolean> {
  const { ok } = await live.command(sid, { op: "memory.set", args: { block, text } });
  return ok;
}

async function undo(sid: string, seq: number): Promise<void> {
  const { ok } = await live.command(sid, { op: "memory.undo", args: { seq } });
  if (ok) toast("The change is undone");
}

function Editor({ sid, block, onDone }: { sid: string; block: Block; onDone: () => void }) {
  const [text, setText] = useState(block.text ?? "");
  const [busy, setBusy] = useState(false);
  const over = block.limit !== null && text.length > block.limit;
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    const ok = text === (block.text ?? "") || (await save(sid, block.block, text.trim() ? text : null));
    setBusy(false);
    if (ok) onDone();
  };
  return (
    <form onSubmit={submit} className="mt-1.5">
      <textarea
        aria-label={`Text of ${block.block}`}
        data-testid="memory-text"
        // biome-ignore lint/a11y/noAutofocus: the person has just asked to edit this text
        autoFocus
        rows={5}
        className={clsx(inputLook, "h-auto! resize-y py-1.5 leading-5")}
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") onDone();
        }}
      />
      <div className="mt-1.5 flex items-center gap-2">
        <Button type="submit" look="primary" className="h-7" disabled={over || busy}>
          Save
        </Button>
        <Button look="quiet" className="h-7" onClick={onDone}>
          Cancel
        </Button>
        {block.limit !== null && (
          <span className={clsx("ml-auto text-2xs tabular", over ? "text-err" : "text-muted")}>
            {number(text.length)} of {number(block.limit)} characters
          </span>
        )}
      </div>
    </form>
  );
}

function BlockCard({ sid, block }: { sid: string; block: Block }) {
  const [editing, setEditing] = useState(false);
  const size = block.text?.length ?? 0;
  return (
    <section
      aria-label={block.block}
      className="rounded-lg border border-line bg-panel p-2.5"
      data-testid="memory-block"
    >
      <div className="flex items-center gap-2">
        <h2 className="text-sm font-semibold">{block.block}</h2>
        <span className="flex-1 truncate text-2xs text-muted">{block.about}</span>
        {block.limit !== null && (
          <span className="shrink-0 text-2xs text-muted tabular">
            {number(size)} / {number(block.limit)}
          </span>
        )}
        {!editing && (
          <IconButton label={`Edit ${block.block}`} className="size-6" onClick={() => setEditing(true)}>
            <PencilLine size={13} aria-hidden="true" />
          </IconButton>
        )}
      </div>
      {block.limit !== null && size > 0 && (
        <span className="mt-1 block h-1 overflow-hidden rounded-full bg-line" aria-hidden="true">
          <span
            className={clsx("block h-full", size > block.limit * 0.9 ? "bg-warn" : "bg-accent")}
            style={{ width: `${Math.min(100, (size / block.limit) * 100)}%` }}
          />
        </span>
      )}
      {editing ? (
        <Editor sid={sid} block={block} onDone={() => setEditing(false)} />
      ) : (
        <p className="mt-1.5 text-sm whitespace-pre-wrap [overflow-wrap:anywhere]">
          {block.text ?? <span className="text-muted">Empty</span>}
        </p>
      )}
    </section>
  );
}

const WHO = { agent: "The agent", person: "You", undo: "You" } as const;

function wordsOf(edit: MemoryEdit): string {
  if (edit.who === "undo") return "took a change back in";
  if (edit.before === null) return "wrote";
  return edit.after === null ? "emptied" : "changed";
}

function Edit({ bench, edit, now }: { bench: Workbench; edit: MemoryEdit; now: number }) {
  const [open, setOpen] = useState(false);
  const Icon = edit.who === "agent" ? Bot : edit.who === "undo" ? Undo2 : User;
  return (
    <li className="border-t py-1 first:border-t-0" data-testid="memory-edit">
      <div className="flex min-h-7 items-center gap-2 text-xs">
        <Icon size={13} className="shrink-0 text-muted" aria-hidden="true" />
        <button
          type="button"
          className="min-w-0 flex-1 truncate text-left hover:underline"
          aria-expanded={open}
          onClick={() => setOpen(!open)}
        >
          {WHO[edit.who]} {wordsOf(edit)} <span className="font-medium">{edit.block}</span>
          <span className="text-muted" title={new Date(edit.ts).toLocaleString()}>
            {" "}
            · {relative(edit.ts, now)}
          </span>
        </button>
        {undoable(bench, edit) && (
          <Button
            look="quiet"
            className="h-7 px-2"
            data-testid="memory-undo"
            icon={<Undo2 size={13} aria-hidden="true" />}
            onClick={() => void undo(bench.sid, edit.seq)}
          >
            Undo
          </Button>
        )}
      </div>
      {open && (
        <div className="pb-1.5">
          <DiffText before={edit.before ?? ""} after={edit.after ?? ""} label={`Change of ${edit.block}`} />
        </div>
      )}
    </li>
  );
}

function NewBlock({ sid, onDone }: { sid: string; onDone: () => void }) {
  const [name, setName] = useState("");
  const [text, setText] = useState("");
  const ready = /^[a-z][a-z0-9_-]{0,31}$/.test(name) && text.trim() !== "";
  return (
    <form
      className="space-y-1.5 rounded-lg border border-line bg-panel p-2.5"
      onSubmit={async (event) => {
        event.preventDefault();
        if (ready && (await save(sid, name, text))) onDone();
      }}
    >
      <input
        aria-label="Name of the block"
        placeholder="Name, for example project"
        className={inputLook}
        value={name}
        // biome-ignore lint/a11y/noAutofocus: the person has just asked for a new block
        autoFocus
        onChange={(event) => setName(event.target.value.toLowerCase())}
      />
      <textarea
        aria-label="Text of the block"
        placeholder="What the agent shall always know"
        rows={3}
        className={clsx(inputLook, "h-auto! resize-y py-1.5")}
        value={text}
        onChange={(event) => setText(event.target.value)}
      />
      <div className="flex gap-2">
        <Button type="submit" look="primary" className="h-7" disabled={!ready}>
          Add
        </Button>
        <Button look="quiet" className="h-7" onClick={onDone}>
          Cancel
        </Button>
      </div>
    </form>
  );
}

/** What the agent always has before its eyes in this session; both sides write, and every change can be undone. */
export default function MemoryTab({ bench }: { bench: Workbench }) {
  const { data } = useQuery({ queryKey: ["memory", bench.sid], queryFn: () => getMemory(bench.sid) });
  const [adding, setAdding] = useState(false);
  const now = useNow(true, 30_000);
  const edits = history(bench);
  const blocks = blocksOf(bench, data);
  return (
    <div className="space-y-2.5 p-3" data-testid="memory-tab">
      <p className="text-xs text-muted">
        The agent sees these blocks in every turn of this session. It writes them itself; so can you.
      </p>
      {blocks.map((block) => (
        <BlockCard key={block.block} sid={bench.sid} block={block} />
      ))}
      {adding ? (
        <NewBlock sid={bench.sid} onDone={() => setAdding(false)} />
      ) : (
        <Button
          look="quiet"
          className="h-7 px-2"
          icon={<Plus size={13} aria-hidden="true" />}
          onClick={() => setAdding(true)}
        >
          New block
        </Button>
      )}
      {edits.length > 0 && (
        <section aria-label="History" className="pt-1">
          <h2 className="mb-1 text-xs font-medium text-muted">History</h2>
          <ul className="rounded-lg border border-line bg-panel px-2.5">
            {edits.slice(0, 100).map((edit) => (
              <Edit key={edit.seq} bench={bench} edit={edit} now={now} />
            ))}
          </ul>
        </section>
      )}
    </div>
  );
}
