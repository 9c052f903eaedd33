import { useState } from "react";
import { explain } from "@/api/client";
import { readBlob } from "@/api/resources";
import type { Text } from "@/generated/events";
import { plural } from "@/workspace/format";
import { CodeBlock } from "./CodeBlock";

const LINES = 24;
const WHOLE = 1_000_000;

/** Code of a cell: long code is folded, and what lies in the blob store is fetched when asked for. */
export function CodeText({ code, errorLine }: { code: Text; errorLine: number | null }) {
  const [open, setOpen] = useState(errorLine !== null && errorLine > LINES);
  const [whole, setWhole] = useState<string | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const text = whole ?? code.head;
  const lines = text.split("\n");
  const partial = code.ref != null && whole === null;
  const folded = lines.length > LINES || partial;
  const show = async () => {
    setOpen(true);
    if (!partial || !code.ref) return;
    try {
      setWhole(await readBlob(code.ref, 0, WHOLE));
    } catch (error) {
      setProblem(explain(error).message);
    }
  };
  return (
    <div>
      <CodeBlock code={open ? text : lines.slice(0, LINES).join("\n")} errorLine={errorLine} />
      {folded && (
        <p className="px-2.5 pb-1.5 text-2xs">
          <button
            type="button"
            className="text-accent underline underline-offset-2"
            aria-expanded={open && !partial}
            onClick={() => (open && !partial ? setOpen(false) : void show())}
          >
            {open && !partial
              ? "Show less code"
              : partial
                ? "Show all code"
                : `Show all ${plural(lines.length, "line")}`}
          </button>
          {problem && <span className="pl-3 text-err">{problem}</span>}
        </p>
      )}
    </div>
  );
}
