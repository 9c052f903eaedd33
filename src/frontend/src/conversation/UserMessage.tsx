import { PencilLine } from "lucide-react";
import { type ReactNode, useState } from "react";
import { useUi } from "@/shell/ui";
import { IconButton } from "@/ui/Button";
import { number } from "@/workspace/format";

const LINES = 12;
const CHARS = 1_500;

/** The question. Long ones are folded, so that ten pages of text never slow the page or push the answer away. */
export function UserMessage(props: { text: string; turn?: string; children?: ReactNode }) {
  const { text, turn, children } = props;
  const [all, setAll] = useState(false);
  const lines = text.split("\n");
  const long = lines.length > LINES || text.length > CHARS;
  const shown = long && !all ? lines.slice(0, LINES).join("\n").slice(0, CHARS) : text;
  return (
    <div
      role="group"
      aria-label="Question"
      className="group relative rounded-lg border border-line bg-sunken px-3.5 py-2.5"
    >
      {turn && (
        <IconButton
          label="Edit this question in a fork"
          data-testid="edit-question"
          className="absolute top-1.5 right-1.5 bg-sunken opacity-0 group-hover:opacity-100 hover:bg-line focus-visible:opacity-100 pointer-coarse:opacity-100"
          onClick={() => useUi.setState({ forking: { turn } })}
        >
          <PencilLine size={14} aria-hidden="true" />
        </IconButton>
      )}
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
    </div>
  );
}
