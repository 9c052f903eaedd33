import { memo } from "react";
import type { RunView, Status } from "@/workspace/state";

const SQUARES = 360;
const STEP = 10;
/** Few siblings get larger squares: one row of them still fits. */
const LARGE = 14;

type Kind = "ok" | "running" | "failed" | "other";
const WORST: Kind[] = ["failed", "running", "other", "ok"];
const FILL: Record<Kind, string> = {
  ok: "color-mix(in oklch, var(--ok) 62%, var(--panel))",
  running: "var(--run)",
  failed: "var(--err)",
  other: "var(--warn)",
};

function kindOf(status: Status): Kind {
  if (status === "ok" || status === "running") return status;
  return status === "failed" || status === "interrupted" ? "failed" : "other";
}

/** A path per kind, so that 5,000 squares are four elements. Shape tells the kind as well as colour does. */
function shape(kind: Kind, x: number, y: number): string {
  if (kind === "failed") return `M${x} ${y + 1}l1-1 3 3 3-3 1 1-3 3 3 3-1 1-3-3-3 3-1-1 3-3z`;
  if (kind === "running") return `M${x} ${y}h8v8h-8zM${x + 2} ${y + 2}v4h4v-4z`;
  if (kind === "other") return `M${x} ${y + 3}h8v2h-8z`;
  return `M${x} ${y}h8v8h-8z`;
}

export function stripRows(members: number, width: number): number {
  const perRow = Math.max(1, Math.floor(width / stripStep(members, width)));
  return Math.min(3, Math.ceil(Math.min(members, SQUARES) / perRow));
}

export function stripStep(members: number, width: number): number {
  return members * LARGE <= width ? LARGE : STEP;
}

export function stripHeight(members: number, width: number): number {
  return stripRows(members, width) * stripStep(members, width);
}

/** One square per sibling in order of arrival; above 360 each square stands for several and shows the worst of them. */
export const Strip = memo(function Strip({ members, width }: { members: readonly RunView[]; width: number }) {
  const step = stripStep(members.length, width);
  const perRow = Math.max(1, Math.floor(width / step));
  const count = Math.min(members.length, SQUARES, perRow * 3);
  const paths: Record<Kind, string> = { ok: "", running: "", failed: "", other: "" };
  for (let i = 0; i < count; i += 1) {
    const from = Math.floor((i * members.length) / count);
    const to = Math.max(from + 1, Math.floor(((i + 1) * members.length) / count));
    const kinds = new Set(members.slice(from, to).map((run) => kindOf(run.status)));
    const kind = WORST.find((name) => kinds.has(name)) ?? "ok";
    paths[kind] += shape(kind, (i % perRow) * STEP, Math.floor(i / perRow) * STEP);
  }
  return (
    <svg
      width={perRow * step}
      height={stripRows(members.length, width) * step}
      viewBox={`0 0 ${perRow * STEP} ${stripRows(members.length, width) * STEP}`}
      aria-hidden="true"
      className="block"
    >
      {WORST.map(
        (kind) => paths[kind] && <path key={kind} d={paths[kind]} fill={FILL[kind]} fillRule="evenodd" />,
      )}
    </svg>
  );
});
