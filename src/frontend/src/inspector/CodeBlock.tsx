import { clsx } from "clsx";
import { memo, useEffect, useState } from "react";

interface Piece {
  text: string;
  color?: string;
}

const MAX_CHARS = 20_000;

const idle = (run: () => void) =>
  "requestIdleCallback" in window ? requestIdleCallback(run, { timeout: 800 }) : setTimeout(run, 60);

/** Plain text at once; colours when the highlighter has loaded and there is time. */
export const CodeBlock = memo(function CodeBlock({
  code,
  errorLine,
}: {
  code: string;
  errorLine: number | null;
}) {
  const [colored, setColored] = useState<{ code: string; lines: Piece[][] } | null>(null);
  useEffect(() => {
    if (code.length > MAX_CHARS) return;
    let gone = false;
    idle(async () => {
      try {
        const { highlight } = await import("./highlight");
        const lines = await highlight(code);
        if (!gone) setColored({ code, lines });
      } catch {
        // Without the highlighter (server away, memory short) the code stays plain.
      }
    });
    return () => {
      gone = true;
    };
  }, [code]);
  const lines: Piece[][] =
    colored?.code === code ? colored.lines : code.split("\n").map((text) => [{ text }]);
  return (
    <pre
      tabIndex={0}
      role="group"
      aria-label="Code"
      className="overflow-x-auto py-1.5 font-mono text-xs leading-[19px]"
    >
      {lines.map((pieces, index) => {
        const bad = errorLine === index + 1;
        return (
          <div
            key={index}
            className={clsx("flex min-w-max pr-3", bad && "bg-err-soft")}
            data-error={bad || undefined}
          >
            <span
              className={clsx("w-8 shrink-0 pr-2.5 text-right select-none", bad ? "text-err" : "text-muted")}
              aria-hidden="true"
            >
              {index + 1}
            </span>
            <span>
              {bad && <span className="sr-only">Error in this line: </span>}
              {pieces.map((piece, at) => (
                <span key={at} style={piece.color ? { color: piece.color } : undefined}>
                  {piece.text}
                </span>
              ))}
              {"\n"}
            </span>
          </div>
        );
      })}
    </pre>
  );
});
