import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useMedia } from "@/ui/useMedia";
import { useNow } from "@/ui/useNow";
import type { TurnView, Workbench } from "@/workspace/state";
import { ancestors, liveUsage, type Opened, tally } from "@/workspace/tree";
import { Cancel } from "./Cancel";
import { GroupRow } from "./GroupRow";
import { treeKey } from "./keys";
import { runKey } from "./runKeys";
import { stripHeight } from "./Strip";
import { Toolbar } from "./Toolbar";
import { columns, ofMenu, TreeRow } from "./TreeRow";
import { type Filter, numbersOf, scaleOf, useRows } from "./useRows";

interface TreePaneProps {
  bench: Workbench;
  turn: TurnView;
  selected: string | null;
  onSelect: (run: string) => void;
  width: number;
}

function useOpened(turn: string) {
  const [state, setState] = useState<{ turn: string; opened: Opened }>({ turn, opened: {} });
  const opened = state.turn === turn ? state.opened : {};
  const change = useCallback(
    (more: Opened) =>
      setState((before) => ({ turn, opened: { ...(before.turn === turn ? before.opened : {}), ...more } })),
    [turn],
  );
  return [opened, change] as const;
}

export function TreePane({ bench, turn, selected, onSelect, width }: TreePaneProps) {
  const [opened, open] = useOpened(turn.id);
  const [focus, setFocus] = useState<string | null>(null);
  const [query, setQuery] = useState("");
  const [filter, setFilter] = useState<Filter>("all");
  const coarse = useMedia("(pointer: coarse)");
  const running = turn.status === "running";
  const now = useNow(running, 500);
  const { rows, unattached, hits } = useRows(bench, turn, opened, query, filter);
  const counts = useMemo(() => tally(turn.runs.flatMap((id) => bench.runs[id] ?? [])), [bench, turn]);
  const scroller = useRef<HTMLDivElement>(null);
  const inner = width - 16;
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: (index) => {
      const row = rows[index];
      if (row?.kind !== "group") return coarse ? 40 : 28;
      return 34 + stripHeight(row.members.length, Math.max(60, inner - row.depth * 14 - 44));
    },
    getItemKey: (index) => rows[index]?.id ?? index,
    overscan: 8,
  });
  const current = rows.some((row) => row.id === focus)
    ? focus
    : (rows.find((row) => row.id === selected)?.id ?? rows[0]?.id ?? null);
  const reveal = useCallback(
    (id: string) => {
      const index = rows.findIndex((row) => row.id === id);
      if (index >= 0) virtual.scrollToIndex(index);
    },
    [rows, virtual],
  );
  // Only when the selection changes: what is closed by hand later stays closed.
  // biome-ignore lint/correctness/useExhaustiveDependencies: see above
  useEffect(() => {
    if (!selected) return;
    const above = ancestors(bench, selected);
    if (above.some((id) => opened[id] === false)) return;
    const missing: Record<string, boolean> = {};
    for (const id of above) if (!opened[id]) missing[id] = true;
    if (Object.keys(missing).length) open(missing);
  }, [selected]);
  const onKey = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || ofMenu(event)) return;
    if (current && runKey(event.key, current)) {
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    const result = treeKey(event.key, rows, current);
    if (!result) return;
    event.preventDefault();
    event.stopPropagation();
    if (result.opened) open(result.opened);
    if (result.focus) {
      setFocus(result.focus);
      reveal(result.focus);
    }
    if (result.select) onSelect(result.select);
  };
  const step = (by: 1 | -1) => {
    if (!hits?.length) return;
    const at = hits.indexOf(selected ?? "");
    const next = hits[(at + by + hits.length) % hits.length];
    if (!next) return;
    onSelect(next);
    setFocus(next);
    reveal(next);
  };
  const expand = (all: boolean) => {
    const change: Record<string, boolean> = {};
    for (const id of turn.runs)
      if (bench.runs[id]?.children.length) change[id] = all || bench.runs[id]?.depth === 0;
    for (const row of rows) if (row.kind === "group") change[row.id] = all;
    open(change);
  };
  const toggle = useCallback((id: string, value: boolean) => open({ [id]: value }), [open]);
  const select = useCallback(
    (id: string) => {
      setFocus(id);
      onSelect(id);
    },
    [onSelect],
  );
  const scale = scaleOf(turn, now);
  return (
    <section
      aria-label="Run tree"
      data-free={!liveUsage(bench, turn.runs[0] ?? "").cost}
      className="group/pane @container flex min-h-0 flex-1 flex-col bg-bg"
    >
      <Toolbar
        query={query}
        onQuery={setQuery}
        onNext={step}
        filter={filter}
        onFilter={setFilter}
        counts={counts}
        hits={hits?.length ?? null}
        onExpand={expand}
      />
      <div className={`${columns} h-6 shrink-0 border-b pr-3 pl-2 text-2xs text-muted`} aria-hidden="true">
        <span className="pl-5.5">Run</span>
        <span className="text-right">Tokens</span>
        <span data-wide data-cost className="text-right">
          Cost
        </span>
        <span className="text-right">Time</span>
        <span data-wide />
      </div>
      <div
        ref={scroller}
        role="tree"
        aria-label="Runs of this turn"
        tabIndex={0}
        aria-activedescendant={current ? `run-${current}` : undefined}
        onKeyDown={onKey}
        data-testid="tree"
        data-rows={rows.length}
        className="group/tree relative min-h-0 flex-1 overflow-y-auto py-1 outline-none"
      >
        {rows.length === 0 && (
          <p className="p-3 text-xs text-muted">
            {hits ? "No run matches." : "The first run appears in a moment."}
          </p>
        )}
        <div role="presentation" className="relative" style={{ height: virtual.getTotalSize() }}>
          {virtual.getVirtualItems().map((item) => {
            const row = rows[item.index];
            if (!row) return null;
            return (
              <div
                role="presentation"
                key={item.key}
                className="absolute inset-x-0"
                style={{ top: item.start, height: item.size }}
              >
                {row.kind === "group" ? (
                  <GroupRow row={row} width={inner} focused={current === row.id} onToggle={toggle} />
                ) : (
                  <TreeRow
                    row={row}
                    numbers={numbersOf(bench, row, now)}
                    scale={scale}
                    now={row.run.finished_ts === null ? now : 0}
                    focused={current === row.id}
                    selected={selected === row.id}
                    onToggle={toggle}
                    onSelect={select}
                  />
                )}
              </div>
            );
          })}
        </div>
        {unattached > 0 && (
          <p className="px-3 py-1 text-2xs text-muted">
            {unattached} unattached: their parent has not arrived yet.
          </p>
        )}
      </div>
      <Cancel bench={bench} />
    </section>
  );
}
