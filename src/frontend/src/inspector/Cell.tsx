import { clsx } from "clsx";
import { CornerDownRight, GitFork } from "lucide-react";
import { useMemo } from "react";
import { useSelection } from "@/shell/selection";
import { useUi } from "@/shell/ui";
import { IconButton } from "@/ui/Button";
import { CopyButton } from "@/ui/CopyButton";
import { StatusIcon, statusWord } from "@/ui/StatusIcon";
import { useNow } from "@/ui/useNow";
import { duration, number, plural } from "@/workspace/format";
import type { CellView } from "@/workspace/state";
import { hasOwnCells, tally } from "@/workspace/tree";
import { CodeText } from "./CodeText";
import { Output } from "./Output";
import type { RunProps } from "./RunDetail";

function SubRuns({ bench, turn, run, cell }: RunProps & { cell: CellView }) {
  const [, select] = useSelection();
  const made = useMemo(
    () => run.children.flatMap((id) => (bench.runs[id]?.site?.cell === cell.id ? [bench.runs[id]] : [])),
    [bench, run, cell.id],
  );
  const first = made[0];
  if (!first) return null;
  const { ok, running, failed } = tally(made);
  const parts = [
    `${number(ok)} done`,
    running ? `${number(running)} running` : "",
    failed ? `${number(failed)} failed` : "",
  ];
  return (
    <button
      type="button"
      className="flex w-full items-center gap-1.5 border-t px-2.5 py-1 text-left text-xs text-accent hover:bg-sunken"
      onClick={() => select({ turn: turn.id, run: first.id, cell: undefined })}
    >
      <CornerDownRight size={13} aria-hidden="true" />
      {plural(made.length, "sub-run")}
      <span className="text-muted tabular">{parts.filter(Boolean).join(", ")}</span>
    </button>
  );
}

function Variables({ cell }: { cell: CellView }) {
  if (!cell.changed.length) return null;
  return (
    <div className="border-t px-2.5 py-1.5">
      <p className="text-2xs text-muted">Variables changed</p>
      <ul className="mt-0.5">
        {cell.changed.map((variable) => (
          <li key={variable.name} className="flex min-w-0 items-baseline gap-2 text-xs">
            <code className="shrink-0 font-mono font-medium">{variable.name}</code>
            <span className="shrink-0 text-2xs text-muted">
              {variable.type}
              {variable.size != null && ` · ${number(variable.size)}`}
            </span>
            <code className="min-w-0 truncate font-mono text-2xs text-muted" title={variable.preview}>
              {variable.preview}
            </code>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Failure({ cell }: { cell: CellView }) {
  if (!cell.error) return null;
  return (
    <div className="border-t bg-err-soft px-2.5 py-1.5 text-xs">
      <p className="font-medium text-err [overflow-wrap:anywhere]">
        {cell.error.name}: {cell.error.message}
        {cell.error.line != null && ` (line ${cell.error.line})`}
      </p>
      {cell.error.traceback && (
        <details className="mt-0.5">
          <summary className="text-muted">Traceback</summary>
          <pre tabIndex={0} className="mt-1 overflow-x-auto font-mono text-2xs">
            {cell.error.traceback}
          </pre>
        </details>
      )}
    </div>
  );
}

export function Cell(props: RunProps & { cell: CellView; n: number }) {
  const { cell, n } = props;
  const running = cell.status === "running";
  const now = useNow(running, 200);
  const [{ cell: chosen }] = useSelection();
  return (
    <article
      aria-label={`Cell ${n}, ${statusWord(cell.status)}`}
      data-testid="cell"
      data-cell={cell.id}
      data-status={cell.status}
      className={clsx(
        "mb-2 scroll-mt-2 overflow-hidden rounded-md border",
        chosen === cell.id ? "border-accent" : "border-line",
      )}
    >
      <header className="flex h-7 items-center gap-2 border-b bg-sunken pr-1 pl-2.5 text-2xs text-muted tabular">
        <span className="font-mono">[{n}]</span>
        <StatusIcon status={cell.status} size={13} />
        <span>{statusWord(cell.status)}</span>
        <span className="ml-auto">{duration(cell.ms ?? Math.max(0, now - cell.started_ts))}</span>
        <CopyButton text={cell.code.head} label="Copy code" />
        {hasOwnCells(props.run) && (
          <IconButton
            label="Edit this cell and run from here in a fork"
            className="size-6"
            data-testid="fork-cell"
            onClick={() => useUi.setState({ forking: { turn: props.turn.id, cell: cell.id } })}
          >
            <GitFork size={13} aria-hidden="true" />
          </IconButton>
        )}
      </header>
      <CodeText code={cell.code} errorLine={cell.error?.line ?? null} />
      <SubRuns {...props} />
      <Output cell={cell} />
      <Failure cell={cell} />
      {cell.value && (
        <div className="border-t px-2.5 py-1.5">
          <p className="text-2xs text-muted">
            {cell.status === "submitted" ? "Submitted as the answer" : "Value"}
          </p>
          <p className="mt-0.5 line-clamp-4 font-mono text-2xs whitespace-pre-wrap [overflow-wrap:anywhere]">
            {cell.value.head}
          </p>
        </div>
      )}
      <Variables cell={cell} />
    </article>
  );
}
