import { useId, useRef } from "react";
import type { ContextRef } from "@/generated/events";

/** Pieces of the strip: at 380 px still two pixels each. */
export const CELLS = 180;
const LEVELS = [0, 34, 58, 80, 100];

function level(value: number, most: number): number {
  if (value <= 0) return 0;
  return most <= 1 ? Math.max(1, Math.ceil(value * 3)) : Math.max(1, Math.ceil((value / most) * 4));
}

/** One path per level, so that the strip is five elements however long the context is. */
function paths(values: readonly number[]): string[] {
  const most = Math.max(1, ...values);
  const out = LEVELS.map(() => "");
  for (let from = 0; from < values.length; ) {
    const now = level(values[from] ?? 0, most);
    let to = from + 1;
    while (to < values.length && level(values[to] ?? 0, most) === now) to += 1;
    out[now] += `M${from} 0h${to - from}v10h${from - to}z`;
    from = to;
  }
  return out;
}

interface HeatProps {
  context: ContextRef;
  values: readonly number[];
  label: string;
  /** Where it was clicked, in characters. */
  onPick: (char: number) => void;
}

/** A context from its first to its last character: what was read is dark, what was read by several runs darker. */
export function HeatStrip({ context, values, label, onPick }: HeatProps) {
  const box = useRef<SVGSVGElement>(null);
  const id = useId();
  return (
    <svg
      ref={box}
      role="img"
      aria-labelledby={id}
      data-testid="heat"
      viewBox={`0 0 ${values.length} 10`}
      preserveAspectRatio="none"
      className="block h-7 w-full cursor-crosshair rounded-md border border-line bg-sunken"
      onPointerUp={(event) => {
        const rect = box.current?.getBoundingClientRect();
        if (rect) onPick(Math.round(((event.clientX - rect.left) / rect.width) * context.chars));
      }}
    >
      <title id={id}>{label}</title>
      {paths(values).map(
        (path, at) =>
          at > 0 &&
          path && (
            <path
              key={at}
              d={path}
              fill={`color-mix(in oklch, var(--accent) ${LEVELS[at]}%, var(--sunken))`}
              shapeRendering="crispEdges"
            />
          ),
      )}
    </svg>
  );
}
