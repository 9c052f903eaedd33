import { type ReactNode, useState } from "react";
import { number } from "@/workspace/format";

const LINES = 12;
const CHARS = 1_500;

/** The question. Long ones are folded, so that ten pages of text never slow the page or push the answer away. */
export function UserMessage({ text, children }: { text: string; children?: ReactNode }) {
  const [all, setAll] = useState(false);
  const lines = text.split("\n");
  const long = lines.length > LINES || text.length > CHARS;
  const shown = long && !all ? lines.slice(0, LINES).join("\n").slice(0, CHARS) : text;
  return (
    <section aria-label="Question" className="rounded-lg border border-line bg-sunken px-3.5 py-2.5">
      <p className="text-base whitespace-pre-wrap [overflow-wrap:anywhere]" data-testid="question">
        {shown}
        {long && !all && "…"}
      </p>
      {long && (
        <button
          type="button"
          className="mt-1 text-xs text-accent underline underline-offset-2"
          aria-expanded={all}
          onClick={() => setAll(!all)}
        >
          {all ? "Show less" : `Show all (${number(text.split(/\s+/).length)} words)`}
        </button>
      )}
      {children && <div className="mt-2">{children}</div>}
    </section>
  );
}
