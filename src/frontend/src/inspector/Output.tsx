import { clsx } from "clsx";
import { EyeOff } from "lucide-react";
import { useState } from "react";
import { number, plural } from "@/workspace/format";
import type { CellView } from "@/workspace/state";
import { clamp, cutAt, settle } from "./outputs";

/** What a cell printed, in order, with the line behind which the model saw nothing. */
export function Output({ cell }: { cell: CellView }) {
  const [all, setAll] = useState(false);
  if (!cell.output.length) return null;
  const cut = cutAt(cell.output, cell.shown).map((part) => ({ ...part, text: settle(part.text) }));
  const { parts, hiddenLines } = all ? { parts: cut, hiddenLines: 0 } : clamp(cut);
  const limited = cell.shown !== null && cell.shown < cell.output_chars;
  let boundary = false;
  return (
    <div className="border-t" data-testid="cell-output">
      <div tabIndex={0} role="group" aria-label="Output" className="max-h-[50vh] overflow-auto py-1.5">
        {parts.map((part, index) => {
          const first = part.unseen && !boundary;
          if (part.unseen) boundary = true;
          const label = index === 0 || parts[index - 1]?.stream !== part.stream;
          return (
            <div key={index}>
              {first && <Boundary shown={cell.shown ?? 0} />}
              <div
                className={clsx(
                  "flex gap-2 border-l-2 px-2.5 font-mono text-2xs",
                  part.stream === "stderr" ? "border-err" : "border-transparent",
                )}
              >
                <span
                  className={clsx(
                    "w-9 shrink-0 select-none",
                    part.stream === "stderr" ? "text-err" : "text-muted",
                  )}
                >
                  {label ? part.stream.slice(3) : ""}
                </span>
                <pre
                  className={clsx(
                    "min-w-0 flex-1 whitespace-pre-wrap [overflow-wrap:anywhere]",
                    part.unseen && "text-muted",
                  )}
                >
                  {part.text.replace(/\n$/, "")}
                </pre>
              </div>
            </div>
          );
        })}
      </div>
      <div className="flex flex-wrap items-center gap-x-3 px-2.5 pb-1 text-2xs text-muted empty:hidden">
        {(hiddenLines > 0 || all) && (
          <button
            type="button"
            className="text-accent underline underline-offset-2"
            aria-expanded={all}
            onClick={() => setAll(!all)}
          >
            {all ? "Show less" : `Show ${plural(hiddenLines, "more line")}`}
          </button>
        )}
        {limited && !boundary && <span>The model saw the first {number(cell.shown ?? 0)} characters.</span>}
        {cell.truncated && <span>The output was cut at its limit.</span>}
      </div>
    </div>
  );
}

function Boundary({ shown }: { shown: number }) {
  return (
    <div className="my-1 flex items-center gap-2 px-2.5 text-2xs text-warn" data-testid="seen-boundary">
      <span className="h-0 flex-1 border-t border-dashed border-warn" />
      <EyeOff size={12} aria-hidden="true" />
      The model saw the first {number(shown)} characters
      <span className="h-0 flex-1 border-t border-dashed border-warn" />
    </div>
  );
}
