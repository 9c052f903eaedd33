import type { Unit } from "@/generated/events";
import { clock, compact, cost, number } from "@/workspace/format";
import type { TurnView, Workbench } from "@/workspace/state";
import { liveUsage } from "@/workspace/tree";
import { forecast, progressOf } from "./forecast";
import { limitsOf } from "./inForce";

export interface Meter {
  unit: Unit;
  label: string;
  /** What is used, for people; `limit` likewise, null when there is none. */
  used: string;
  limit: string | null;
  /** Used and reserved share of the limit, 0 to 1; null without a limit. */
  fraction: number | null;
  reserved: number;
  /** What it comes to at the end, for people; null when nothing can be said. */
  forecast: string | null;
  /** That is more than the limit. */
  over: boolean;
}

function share(used: number | null, limit: number | null | undefined): number | null {
  return used === null || limit == null || limit <= 0 ? null : Math.min(1, used / limit);
}

/** The meters of a turn: cost, tokens, model calls, time, sub-runs and sandboxes. */
export function metersOf(bench: Workbench, turn: TurnView, now: number): Meter[] {
  const limits = limitsOf(turn);
  const seen = liveUsage(bench, turn.runs[0] ?? "");
  const spent = turn.budget?.spent;
  const running = turn.status === "running";
  const calls = Math.max(seen.calls, spent?.calls ?? 0);
  const tokens = Math.max(seen.tokens, (spent?.prompt_tokens ?? 0) + (spent?.completion_tokens ?? 0));
  const money = !running && turn.usage.calls ? (turn.usage.cost_usd ?? null) : seen.cost;
  const wall = ((turn.finished_ts ?? Math.max(now, turn.ts)) - turn.ts) / 1_000;
  const progress = progressOf(bench, turn);
  const meter = (
    unit: Unit,
    label: string,
    value: number | null,
    limit: number | null | undefined,
    show: (n: number) => string,
    more: { used?: string; reserved?: number; steady?: boolean } = {},
  ): Meter => {
    const fraction = share(value, limit);
    const end = more.steady ? null : forecast(value, progress);
    const promised = running && limit ? (more.reserved ?? 0) / limit : 0;
    return {
      unit,
      label,
      used: more.used ?? (value === null ? "unknown" : show(value)),
      limit: limit == null ? null : show(limit),
      fraction,
      reserved: fraction === null ? 0 : Math.min(1 - fraction, promised),
      forecast: end ? show(end) : null,
      over: end !== null && limit != null && end > limit,
    };
  };
  const seconds = (value: number) => clock(value * 1_000);
  return [
    meter("cost", "Cost", money, limits.cost_usd, cost, calls ? {} : { used: "nothing yet" }),
    meter("tokens", "Tokens", tokens, limits.tokens, compact),
    meter("calls", "Model calls", calls, limits.calls, whole, { reserved: turn.budget?.reserved_calls ?? 0 }),
    meter("wall", "Time", wall, limits.wall_s, seconds),
    meter("children", "Sub-runs", Math.max(0, turn.runs.length - 1), limits.children, whole, {
      steady: true,
    }),
    ...(running && turn.budget
      ? [
          meter("sandboxes", "Sandboxes", turn.budget.live_sandboxes, limits.sandboxes, whole, {
            steady: true,
          }),
        ]
      : []),
  ];
}

const whole = (value: number) => number(Math.round(value));

/** The meter that comes closest to its limit: it is the one worth the header. */
export function tightest(meters: Meter[]): Meter | null {
  let best: Meter | null = null;
  for (const meter of meters) {
    if (meter.unit === "sandboxes") continue;
    if (meter.fraction !== null && (best === null || meter.fraction > (best.fraction ?? 0))) best = meter;
  }
  return best;
}

export type Level = "ok" | "warn" | "err";

export function level(fraction: number | null): Level {
  if (fraction === null || fraction < 0.7) return "ok";
  return fraction < 0.9 ? "warn" : "err";
}
