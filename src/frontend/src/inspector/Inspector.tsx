import { X } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { useSelection } from "@/shell/selection";
import { setTreeHeight, useUi } from "@/shell/ui";
import { TreePane } from "@/tree/TreePane";
import { IconButton } from "@/ui/Button";
import { ErrorBoundary } from "@/ui/ErrorBoundary";
import { Splitter } from "@/ui/Splitter";
import { pickRun, pickTurn } from "@/workspace/select";
import type { TurnView, Workbench } from "@/workspace/state";
import { useWorkspace } from "@/workspace/store";
import { RunDetail } from "./RunDetail";

function TurnPicker({ bench, turn }: { bench: Workbench; turn: TurnView }) {
  const [, select] = useSelection();
  if (bench.turn_order.length < 2) return null;
  return (
    <select
      aria-label="Turn shown in the inspector"
      className="h-7 min-w-0 flex-1 truncate rounded-md border border-line bg-panel px-1.5 text-xs pointer-coarse:h-10"
      value={turn.id}
      onChange={(event) =>
        select({ turn: event.target.value, run: undefined, cell: undefined, cite: undefined })
      }
    >
      {bench.turn_order.map((id, index) => (
        <option key={id} value={id}>
          {index + 1}. {bench.turns[id]?.question.slice(0, 80)}
        </option>
      ))}
    </select>
  );
}

/** Above the tree of a turn, below the selected run; the divider between them can be moved. */
export function Inspector({ onClose }: { onClose?: () => void }) {
  const bench = useWorkspace((state) => state.bench);
  const [selection, select] = useSelection();
  const stored = useUi((state) => state.treeHeight);
  const box = useRef<HTMLDivElement>(null);
  const [size, setSize] = useState({ width: 480, height: 800 });
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(() =>
      setSize({ width: element.clientWidth, height: element.clientHeight }),
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const turn = pickTurn(bench, selection.turn);
  const run = pickRun(bench, turn, selection.run);
  const height = Math.min(stored ?? Math.round(size.height * 0.46), Math.max(140, size.height - 200));
  const bar = onClose || (bench && bench.turn_order.length > 1);
  return (
    <div
      ref={box}
      className="flex min-h-0 min-w-0 flex-1 flex-col overflow-hidden bg-bg"
      data-testid="inspector"
    >
      {bar && (
        <div className="flex h-10 shrink-0 items-center gap-2 border-b bg-panel px-2">
          {bench && turn && <TurnPicker bench={bench} turn={turn} />}
          {onClose && (
            <>
              <h2 className="flex-1 pl-1 text-sm font-semibold">Inspector</h2>
              <IconButton label="Close the inspector" onClick={onClose}>
                <X size={16} aria-hidden="true" />
              </IconButton>
            </>
          )}
        </div>
      )}
      {bench && turn ? (
        <>
          <div className="flex shrink-0 flex-col" style={{ height }}>
            <ErrorBoundary name="The run tree">
              <TreePane
                bench={bench}
                turn={turn}
                selected={run?.id ?? null}
                width={size.width}
                onSelect={(id) => select({ turn: turn.id, run: id, cell: undefined })}
              />
            </ErrorBoundary>
          </div>
          <Splitter
            label="Height of the run tree"
            orientation="horizontal"
            value={height}
            min={120}
            max={Math.max(200, size.height - 160)}
            direction={1}
            onChange={setTreeHeight}
          />
          <ErrorBoundary name="The run">
            {run && <RunDetail key={run.id} bench={bench} turn={turn} run={run} />}
          </ErrorBoundary>
        </>
      ) : (
        <div className="grid flex-1 place-items-center p-6 text-center">
          <p className="max-w-60 text-sm text-muted">
            The runs of a turn and what they did appear here as soon as a question is sent.
          </p>
        </div>
      )}
    </div>
  );
}
