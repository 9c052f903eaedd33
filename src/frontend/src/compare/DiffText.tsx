import { clsx } from "clsx";
import { useMemo, useState } from "react";
import { plural } from "@/workspace/format";
import { type DiffLine, diffOf, isSame } from "./diffs";

const LOOK: Record<DiffLine["kind"], string> = {
  same: "",
  gap: "",
  added: "bg-ok-soft",
  removed: "bg-err-soft",
};
const SIGN: Record<DiffLine["kind"], string> = { same: " ", gap: " ", added: "+", removed: "−" };
const MARK = {
  same: "",
  added: "bg-[color-mix(in_oklch,var(--ok)_28%,transparent)]",
  removed: "bg-[color-mix(in_oklch,var(--err)_26%,transparent)]",
};
const WORD = { same: "", gap: "", added: "Added: ", removed: "Removed: " } as const;

function Row({ line }: { line: DiffLine }) {
  return (
    <div className={clsx("flex min-w-0", LOOK[line.kind])} data-kind={line.kind}>
      <span className="w-9 shrink-0 pr-1.5 text-right text-muted select-none" aria-hidden="true">
        {line.before ?? ""}
      </span>
      <span className="w-9 shrink-0 pr-1.5 text-right text-muted select-none" aria-hidden="true">
        {line.after ?? ""}
      </span>
      <span
        className={clsx("w-4 shrink-0 select-none", line.kind === "added" ? "text-ok" : "text-err")}
        aria-hidden="true"
      >
        {SIGN[line.kind]}
      </span>
      <span className="min-w-0 flex-1 pr-2 whitespace-pre-wrap [overflow-wrap:anywhere]">
        {WORD[line.kind] && <span className="sr-only">{WORD[line.kind]}</span>}
        {line.pieces.map((piece, at) => (
          <span key={at} className={clsx("rounded-[2px]", MARK[piece.kind])}>
            {piece.text}
          </span>
        ))}
        {"\n"}
      </span>
    </div>
  );
}

/** What changed between two texts, line by line, with the changed words marked. */
export function DiffText({
  before,
  after,
  label = "Changes",
}: {
  before: string;
  after: string;
  label?: string;
}) {
  const [whole, setWhole] = useState(false);
  const rows = useMemo(() => diffOf(before, after, whole), [before, after, whole]);
  if (isSame(before, after)) return <p className="text-xs text-muted">The same at both sides.</p>;
  return (
    <div
      tabIndex={0}
      role="group"
      aria-label={label}
      data-testid="diff"
      className="max-h-[60vh] overflow-auto rounded-md border border-line bg-panel py-1 font-mono text-2xs leading-[18px]"
    >
      {rows.map((line, at) =>
        line.kind === "gap" ? (
          <button
            key={at}
            type="button"
            className="my-0.5 block w-full bg-sunken px-2 py-0.5 text-left font-sans text-2xs text-muted hover:text-text"
            onClick={() => setWhole(true)}
          >
            {plural(line.hidden ?? 0, "equal line")}
          </button>
        ) : (
          <Row key={at} line={line} />
        ),
      )}
    </div>
  );
}
