import type { Limits, Unit } from "@/generated/events";
import { clock, compact, cost, number } from "@/workspace/format";
import type { TurnView, Workbench } from "@/workspace/state";
import { liveUsage } from "@/workspace/tree";

export interface Meter {
  unit: Unit;
  label: string;
  /** What is used, for people; `limit` likewise, null when there is none. */
  used: string;
  limit: string | null;
  /** Used and reserved share of the limit, 0 to 1; null without a limit. */
  fraction: number | null;
  reserved: number;
}

function share(used: number | null, limit: number | null | undefined): number | null {
  return used === null || limit == null || limit <= 0 ? null : Math.min(1, used / limit);
}

/** The meters of a turn: cost, tokens, model calls, time and sub-runs. */
export function metersOf(bench: Workbench, turn: TurnView, now: number): Meter[] {
  const limits: Limits = { ...turn.limits, ...turn.budget?.limits };
  const seen = liveUsage(bench, turn.runs[0] ?? "");
  const spent = turn.budget?.spent;
  const calls = Math.max(seen.calls, spent?.calls ?? 0);
  const tokens = Math.max(seen.tokens, (spent?.prompt_tokens ?? 0) + (spent?.completion_tokens ?? 0));
  const money = turn.status !== "running" && turn.usage.calls ? (turn.usage.cost_usd ?? null) : seen.cost;
  const wall = ((turn.finished_ts ?? Math.max(now, turn.ts)) - turn.ts) / 1_000;
  const children = Math.max(0, turn.runs.length - 1);
  const reserved =
    turn.status === "running" && limits.calls ? (turn.budget?.reserved_calls ?? 0) / limits.calls : 0;
  const meter = (
    unit: Unit,
    label: string,
    used: string,
    limit: string | null,
    fraction: number | null,
  ): Meter => ({
    unit,
    label,
    used,
    limit,
    fraction,
    reserved: unit === "calls" && fraction !== null ? Math.min(1 - fraction, reserved) : 0,
  });
  const ceiling = (value: number | null | undefined, show: (n: number) => string) =>
    value == null ? null : show(value);
  return [
    meter(
      "cost",
      "Cost",
      calls ? cost(money) : "nothing yet",
      ceiling(limits.cost_usd, cost),
      share(money, limits.cost_usd),
    ),
    meter("tokens", "Tokens", compact(tokens), ceiling(limits.tokens, compact), share(tokens, limits.tokens)),
    meter("calls", "Model calls", number(calls), ceiling(limits.calls, number), share(calls, limits.calls)),
    meter(
      "wall",
      "Time",
      clock(wall * 1_000),
      ceiling(limits.wall_s, (s) => clock(s * 1_000)),
      share(wall, limits.wall_s),
    ),
    meter(
      "children",
      "Sub-runs",
      number(children),
      ceiling(limits.children, number),
      share(children, limits.children),
    ),
  ];
}

/** The meter that comes closest to its limit: it is the one worth the header. */
export function tightest(meters: Meter[]): Meter | null {
  let best: Meter | null = null;
  for (const meter of meters) {
    if (meter.fraction !== null && (best === null || meter.fraction > (best.fraction ?? 0))) best = meter;
  }
  return best;
}

export type Level = "ok" | "warn" | "err";

export function level(fraction: number | null): Level {
  if (fraction === null || fraction < 0.7) return "ok";
  return fraction < 0.9 ? "warn" : "err";
}
