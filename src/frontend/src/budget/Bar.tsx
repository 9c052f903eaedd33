import { clsx } from "clsx";
import { level, type Meter } from "./meters";

const FILL = { ok: "bg-accent", warn: "bg-warn", err: "bg-err" } as const;
export const WORD = { ok: "", warn: "text-warn", err: "text-err" } as const;

export function Bar({ meter, className }: { meter: Meter; className?: string }) {
  const used = (meter.fraction ?? 0) * 100;
  return (
    <span
      role="meter"
      aria-label={meter.label}
      aria-valuenow={Math.round(used)}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuetext={`${meter.used} of ${meter.limit ?? "no limit"}`}
      className={clsx("flex h-1.5 overflow-hidden rounded-full bg-line", className)}
    >
      <span className={FILL[level(meter.fraction)]} style={{ width: `${used}%` }} />
      <span
        className="bg-[repeating-linear-gradient(135deg,var(--accent)_0_2px,transparent_2px_4px)]"
        style={{ width: `${meter.reserved * 100}%` }}
      />
    </span>
  );
}
