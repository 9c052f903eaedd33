import { useEffect, useRef } from "react";
import { live } from "@/app";
import { Button } from "@/ui/Button";
import { plural } from "@/workspace/format";
import type { RunView, Workbench } from "@/workspace/state";
import { useCancel } from "./runKeys";
import { runName } from "./TreeRow";

function runningBelow(bench: Workbench, run: RunView): number {
  let count = -1;
  const stack = [run.id];
  while (stack.length) {
    const next = bench.runs[stack.pop() ?? ""];
    if (!next) continue;
    if (next.status === "running") count += 1;
    stack.push(...next.children);
  }
  return Math.max(0, count);
}

const close = () => {
  useCancel.setState({ run: null });
  document.querySelector<HTMLElement>('[role="tree"]')?.focus();
};

/** Asks once before a run and everything below it is stopped: that cannot be undone. */
export default function CancelBar({ bench }: { bench: Workbench }) {
  const id = useCancel((state) => state.run);
  const run = bench.runs[id ?? ""];
  const yes = useRef<HTMLButtonElement>(null);
  const open = run?.status === "running";
  useEffect(() => {
    if (open) yes.current?.focus();
  }, [open]);
  if (!run || !open) return null;
  const root = run.parent === null;
  const below = runningBelow(bench, run);
  const cancel = () => {
    void live.command(bench.sid, { op: "run.cancel", args: { turn: run.turn, run: run.id } });
    close();
  };
  return (
    <div
      role="alertdialog"
      aria-label={root ? "Stop the whole turn?" : "Cancel this run?"}
      data-testid="cancel-bar"
      className="flex shrink-0 flex-wrap items-center gap-2 border-t bg-panel px-3 py-2 text-xs"
      onKeyDown={(event) => {
        if (event.key === "Escape") close();
      }}
    >
      <span className="min-w-40 flex-1">
        {root ? "Stop the whole turn, " : "Cancel "}
        <span className="font-medium">{runName(run).slice(0, 60)}</span>
        {below > 0 && `${root ? "," : ""} and ${plural(below, "running sub-run")}`}?{" "}
        {root ? "This is its first run: nothing goes on without it." : "Its parent goes on without it."}
      </span>
      <Button ref={yes} look="danger" className="h-7" onClick={cancel}>
        {root ? "Stop the turn" : "Cancel run"}
      </Button>
      <Button look="quiet" className="h-7" onClick={close}>
        Keep it
      </Button>
    </div>
  );
}
