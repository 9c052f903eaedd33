import { clsx } from "clsx";
import { Brain, ChevronRight } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { number } from "@/workspace/format";
import type { MessageView } from "@/workspace/state";

function lastLine(text: string): string {
  return (
    text
      .trimEnd()
      .split("\n")
      .findLast((line) => line.trim()) ?? ""
  );
}

/** A train of thought: one line while it is folded, growing while it is thought. */
export default function Thought({
  thought,
  startOpen = false,
}: {
  thought: MessageView;
  startOpen?: boolean;
}) {
  const [open, setOpen] = useState(startOpen);
  const box = useRef<HTMLDivElement>(null);
  const { text, done } = thought;
  useEffect(() => {
    if (!done && box.current) box.current.scrollTop = box.current.scrollHeight;
    void text;
  }, [text, done]);
  return (
    <div data-testid="thought" data-done={done}>
      <button
        type="button"
        className="flex w-full min-w-0 items-center gap-2 rounded-sm px-1.5 py-0.5 text-left text-xs hover:bg-sunken pointer-coarse:min-h-10"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
      >
        <Brain
          size={12}
          className={clsx("shrink-0", done ? "text-muted" : "animate-pulse-dot text-run")}
          aria-hidden="true"
        />
        <span className="shrink-0 font-medium">{done ? "Thought" : "Thinking"}</span>
        <span className="min-w-0 flex-1 truncate text-muted italic">
          {!open && (done ? text.trim().split("\n")[0] : lastLine(text))}
        </span>
        <span className="shrink-0 text-2xs text-muted tabular">{number(text.length)} characters</span>
        <ChevronRight
          size={12}
          className={clsx("shrink-0 text-muted transition-transform", open && "rotate-90")}
          aria-hidden="true"
        />
      </button>
      {open && (
        <div
          ref={box}
          tabIndex={0}
          role="group"
          aria-label="Thought"
          className="mb-1 ml-5 max-h-72 overflow-y-auto border-l-2 border-line py-0.5 pl-3 text-xs leading-[19px] whitespace-pre-wrap text-muted [overflow-wrap:anywhere]"
        >
          {text || "…"}
        </div>
      )}
    </div>
  );
}
