import { useVirtualizer } from "@tanstack/react-virtual";
import { clsx } from "clsx";
import { ZoomIn, ZoomOut } from "lucide-react";
import { type KeyboardEvent, useMemo, useRef, useState } from "react";
import { Cancel } from "@/tree/Cancel";
import { treeKey } from "@/tree/keys";
import { runKey } from "@/tree/runKeys";
import { runName } from "@/tree/TreeRow";
import { scaleOf, useRows } from "@/tree/useRows";
import { IconButton } from "@/ui/Button";
import { StatusIcon, statusWord } from "@/ui/StatusIcon";
import { useMedia } from "@/ui/useMedia";
import { useNow } from "@/ui/useNow";
import { duration, number } from "@/workspace/format";
import type { RunView, TurnView, Workbench } from "@/workspace/state";
import type { Opened, Row } from "@/workspace/tree";
import { lanesOf, type Segment, ticks } from "./lanes";

interface TimelineProps {
  bench: Workbench;
  turn: TurnView;
  selected: string | null;
  onSelect: (run: string) => void;
  width: number;
}

const FILL: Record<Segment["kind"], string> = {
  model: "var(--accent)",
  sandbox: "color-mix(in oklch, var(--ok) 80%, var(--panel))",
  queue: "var(--line-strong)",
  person: "var(--warn)",
};
const LEGEND: [Segment["kind"], string][] = [
  ["model", "model"],
  ["sandbox", "sandbox"],
  ["queue", "queue"],
];
const FRAME: Record<RunView["status"], string> = {
  running: "var(--run)",
  ok: "var(--line-strong)",
  failed: "var(--err)",
  cancelled: "var(--muted)",
  limit: "var(--warn)",
  interrupted: "var(--warn)",
};
const ZOOMS = [1, 2, 4, 8, 16, 32];

function Bars(props: { bench: Workbench; run: RunView; now: number; start: number; scale: number }) {
  const { bench, run, now, start, scale } = props;
  const end = run.finished_ts ?? Math.max(now, run.started_ts);
  const lanes = lanesOf(bench, run, end);
  const x = (time: number) => (time - start) * scale;
  const bar = (segment: Segment, y: number, key: number) => (
    <rect
      key={key}
      x={x(segment.start)}
      y={y}
      width={Math.max(1, (segment.end - segment.start) * scale)}
      height={6}
      rx={1.5}
      fill={FILL[segment.kind]}
    />
  );
  return (
    <>
      <rect
        x={x(run.started_ts)}
        y={4}
        width={Math.max(2, (end - run.started_ts) * scale)}
        height={18}
        rx={3}
        fill="var(--sunken)"
        stroke={FRAME[run.status]}
      />
      {lanes.model.map((segment, at) => bar(segment, 6, at))}
      {lanes.sandbox.map((segment, at) => bar(segment, 14, at))}
    </>
  );
}

function GroupBars({
  members,
  now,
  start,
  scale,
}: {
  members: RunView[];
  now: number;
  start: number;
  scale: number;
}) {
  const parts = members.map((run) => {
    const from = (run.started_ts - start) * scale;
    const to = ((run.finished_ts ?? now) - start) * scale;
    return `M${from.toFixed(1)} 10h${Math.max(1, to - from).toFixed(1)}v6h${(-Math.max(1, to - from)).toFixed(1)}z`;
  });
  return <path d={parts.join("")} fill="var(--accent)" fillOpacity={0.35} />;
}

function nameOf(row: Row): string {
  return row.kind === "group" ? `${row.name} × ${number(row.members.length)}` : runName(row.run);
}

/** The same rows as the tree over time: what waited for the model, what ran in the sandbox. */
export default function TimelinePane({ bench, turn, selected, onSelect, width }: TimelineProps) {
  const [opened, setOpened] = useState<Opened>({});
  const [focus, setFocus] = useState<string | null>(null);
  const [zoom, setZoom] = useState(1);
  const running = turn.status === "running";
  const now = useNow(running, 500);
  const coarse = useMedia("(pointer: coarse)");
  const { rows } = useRows(bench, turn, opened, "", "all");
  const scroller = useRef<HTMLDivElement>(null);
  const names = Math.max(110, Math.round(width * 0.34));
  const area = Math.max(120, width - names - 24) * zoom;
  const { start, end } = scaleOf(turn, now);
  const scale = area / Math.max(1, end - start);
  const height = coarse ? 40 : 28;
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => height,
    getItemKey: (index) => rows[index]?.id ?? index,
    overscan: 8,
  });
  const marks = useMemo(() => ticks(end - start, area / 90), [start, end, area]);
  const current = rows.some((row) => row.id === focus)
    ? focus
    : (rows.find((row) => row.id === selected)?.id ?? rows[0]?.id ?? null);
  const step = (by: 1 | -1) =>
    setZoom((before) => ZOOMS[Math.min(ZOOMS.length - 1, Math.max(0, ZOOMS.indexOf(before) + by))] ?? before);
  const onKey = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const zoomKey = event.key === "+" || event.key === "=" ? 1 : event.key === "-" ? -1 : 0;
    if (zoomKey) step(zoomKey);
    else if (!current || !runKey(event.key, current)) {
      const result = treeKey(event.key, rows, current);
      if (!result) return;
      if (result.opened) setOpened({ ...opened, ...result.opened });
      if (result.focus) {
        setFocus(result.focus);
        virtual.scrollToIndex(rows.findIndex((row) => row.id === result.focus));
      }
      if (result.select) onSelect(result.select);
    }
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <section aria-label="Timeline" className="flex min-h-0 flex-1 flex-col bg-bg" data-testid="timeline">
      <div className="flex h-9 shrink-0 items-center gap-3 border-b bg-panel px-3 text-2xs text-muted pointer-coarse:h-12">
        {LEGEND.map(([kind, word]) => (
          <span key={kind} className="flex items-center gap-1">
            <span className="h-2 w-3 rounded-[2px]" style={{ background: FILL[kind] }} aria-hidden="true" />
            {word}
          </span>
        ))}
        <span className="flex-1" />
        <span className="tabular">{duration(end - start)}</span>
        <IconButton label="Zoom out" className="size-6" disabled={zoom === 1} onClick={() => step(-1)}>
          <ZoomOut size={14} aria-hidden="true" />
        </IconButton>
        <IconButton
          label="Zoom in"
          className="size-6"
          disabled={zoom === ZOOMS.at(-1)}
          onClick={() => step(1)}
        >
          <ZoomIn size={14} aria-hidden="true" />
        </IconButton>
      </div>
      <div
        ref={scroller}
        role="tree"
        aria-label="Runs of this turn over time"
        tabIndex={0}
        aria-activedescendant={current ? `time-${current}` : undefined}
        onKeyDown={onKey}
        className="group/tree relative min-h-0 flex-1 overflow-auto outline-none"
      >
        <div
          role="presentation"
          className="sticky top-0 z-20 h-6 border-b bg-bg"
          style={{ width: names + area + 24 }}
        >
          <svg
            width={area + 24}
            height={24}
            className="absolute top-0"
            style={{ left: names }}
            aria-hidden="true"
          >
            {marks.map((mark) => (
              <text
                key={mark}
                x={mark * scale + 3}
                y={15}
                fontSize={10}
                fill="var(--muted)"
                className="tabular"
              >
                {mark === 0 ? "0" : duration(mark)}
              </text>
            ))}
          </svg>
        </div>
        <div
          role="presentation"
          className="relative"
          style={{ height: virtual.getTotalSize(), width: names + area + 24 }}
        >
          {virtual.getVirtualItems().map((item) => {
            const row = rows[item.index];
            if (!row) return null;
            const isRun = row.kind === "run";
            const time = isRun ? (row.run.finished_ts ?? now) - row.run.started_ts : 0;
            return (
              <div
                key={item.key}
                id={`time-${row.id}`}
                role="treeitem"
                tabIndex={-1}
                aria-level={row.depth + 1}
                aria-selected={selected === row.id}
                {...(row.kind === "group" || row.childCount ? { "aria-expanded": row.expanded } : {})}
                aria-label={
                  isRun
                    ? `${runName(row.run)}, ${statusWord(row.run.status)}, ${duration(time)}`
                    : nameOf(row)
                }
                data-testid="time-row"
                onClick={() => {
                  setFocus(row.id);
                  if (isRun) onSelect(row.id);
                  else setOpened({ ...opened, [row.id]: !row.expanded });
                }}
                onKeyDown={undefined}
                className={clsx(
                  "absolute inset-x-0 flex cursor-pointer items-center text-xs",
                  selected === row.id ? "bg-accent-soft" : "hover:bg-sunken",
                  current === row.id && "group-focus-visible/tree:shadow-[inset_0_0_0_2px_var(--accent)]",
                )}
                style={{ top: item.start, height: item.size }}
              >
                <span
                  className={clsx(
                    "sticky left-0 z-10 flex h-full shrink-0 items-center gap-1.5 border-r px-2",
                    selected === row.id ? "bg-accent-soft" : "bg-bg",
                  )}
                  style={{ width: names, paddingLeft: 8 + row.depth * 10 }}
                >
                  {isRun && <StatusIcon status={row.run.waiting ? "waiting" : row.run.status} size={12} />}
                  <span className="min-w-0 truncate">{nameOf(row)}</span>
                </span>
                <svg width={area + 24} height={26} className="shrink-0" aria-hidden="true">
                  {marks.map((mark) => (
                    <line
                      key={mark}
                      x1={mark * scale}
                      x2={mark * scale}
                      y1={0}
                      y2={28}
                      stroke="var(--line)"
                    />
                  ))}
                  {isRun ? (
                    <Bars bench={bench} run={row.run} now={now} start={start} scale={scale} />
                  ) : (
                    <GroupBars members={row.members} now={now} start={start} scale={scale} />
                  )}
                </svg>
              </div>
            );
          })}
        </div>
      </div>
      <Cancel bench={bench} />
    </section>
  );
}
