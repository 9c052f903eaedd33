import { X } from "lucide-react";
import { lazy, Suspense, useEffect, useRef, useState } from "react";
import { useSelection, type View } from "@/shell/selection";
import { setTreeHeight, useUi } from "@/shell/ui";
import { TreePane } from "@/tree/TreePane";
import { IconButton } from "@/ui/Button";
import { ErrorBoundary } from "@/ui/ErrorBoundary";
import { Splitter } from "@/ui/Splitter";
import { pickRun, pickTurn } from "@/workspace/select";
import type { RunView, TurnView, Workbench } from "@/workspace/state";
import { useWorkspace } from "@/workspace/store";
import { RunDetail } from "./RunDetail";
import { Views } from "./Views";

function TurnPicker({ bench, turn }: { bench: Workbench; turn: TurnView }) {
  const [, select] = useSelection();
  if (bench.turn_order.length < 2) return null;
  return (
    <div className="flex shrink-0 border-b bg-panel px-2 py-1">
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
    </div>
  );
}

const ContextTab = lazy(() => import("@/coverage/ContextTab"));
const ArtifactsTab = lazy(() => import("@/artifacts/ArtifactsTab"));
const MemoryTab = lazy(() => import("@/memory/MemoryTab"));
const Timeline = lazy(() => import("@/timeline/TimelinePane"));

interface Size {
  width: number;
  height: number;
}

function useSize() {
  const box = useRef<HTMLDivElement>(null);
  const [size, setSize] = useState<Size>({ width: 480, height: 800 });
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(() =>
      setSize({ width: element.clientWidth, height: element.clientHeight }),
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [box, size] as const;
}

interface ShownProps {
  bench: Workbench;
  turn: TurnView;
  run: RunView | null;
  size: Size;
}

/** Above the runs of a turn, below the selected one; the divider between them can be moved. */
function Runs({ bench, turn, run, size, timeline }: ShownProps & { timeline: boolean }) {
  const [, select] = useSelection();
  const stored = useUi((state) => state.treeHeight);
  const height = Math.min(stored ?? Math.round(size.height * 0.44), Math.max(140, size.height - 200));
  const props = {
    bench,
    turn,
    selected: run?.id ?? null,
    width: size.width,
    onSelect: (id: string) => select({ turn: turn.id, run: id, cell: undefined }),
  };
  return (
    <>
      <div className="flex shrink-0 flex-col" style={{ height }}>
        <ErrorBoundary name="The run tree">
          {timeline ? (
            <Suspense fallback={<div className="flex-1" />}>
              <Timeline {...props} />
            </Suspense>
          ) : (
            <TreePane {...props} />
          )}
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
  );
}

function Shown({ view, ...props }: ShownProps & { view: View }) {
  if (view === "tree" || view === "timeline") return <Runs {...props} timeline={view === "timeline"} />;
  return (
    <div className="min-h-0 flex-1 overflow-y-auto" data-testid={`view-${view}`}>
      <ErrorBoundary key={view} name="This view">
        <Suspense fallback={<p className="p-3 text-sm text-muted">Loading</p>}>
          {view === "context" && <ContextTab key={props.run?.id} {...props} />}
          {view === "artifacts" && <ArtifactsTab bench={props.bench} />}
          {view === "memory" && <MemoryTab bench={props.bench} />}
        </Suspense>
      </ErrorBoundary>
    </div>
  );
}

/** Everything behind the conversation: the runs of a turn, what they read and made, what the agent remembers. */
export function Inspector({ onClose }: { onClose?: () => void }) {
  const bench = useWorkspace((state) => state.bench);
  const [selection] = useSelection();
  const [box, size] = useSize();
  const turn = pickTurn(bench, selection.turn);
  const run = pickRun(bench, turn, selection.run);
  const view = selection.view ?? "tree";
  return (
    <div
      ref={box}
      className="flex min-h-0 min-w-0 flex-1 flex-col overflow-hidden bg-bg"
      data-testid="inspector"
    >
      {onClose && (
        <div className="flex h-10 shrink-0 items-center border-b bg-panel px-2">
          <h2 className="flex-1 pl-1 text-sm font-semibold">Inspector</h2>
          <IconButton label="Close the inspector" onClick={onClose}>
            <X size={16} aria-hidden="true" />
          </IconButton>
        </div>
      )}
      {bench && turn ? (
        <>
          <Views bench={bench} view={view} />
          {view !== "artifacts" && view !== "memory" && <TurnPicker bench={bench} turn={turn} />}
          <Shown bench={bench} turn={turn} run={run} size={size} view={view} />
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
