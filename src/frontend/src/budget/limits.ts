import type { Limits, Unit } from "@/generated/events";
import { DEFAULTS } from "./inForce";

/** The limits a person sets: field, label, unit, step. */
export const LIMIT_FIELDS: [keyof Limits & string, string, string, number][] = [
  ["cost_usd", "Cost", "US dollars", 0.01],
  ["calls", "Model calls", "calls", 1],
  ["tokens", "Tokens", "tokens", 1],
  ["wall_s", "Time", "seconds", 1],
  ["depth", "Depth", "levels", 1],
];

/** What a field of limits means: empty is none, NaN is what cannot be a limit; only cost and time have fractions. */
export function limitValue(name: keyof Limits, raw: string): number | undefined {
  const value = Number(raw);
  if (raw.trim() === "") return undefined;
  if (!Number.isFinite(value) || value < 0) return Number.NaN;
  if (name === "depth") return Math.min(8, Math.round(value));
  if (value === 0) return Number.NaN;
  return name === "cost_usd" || name === "wall_s" ? value : Math.max(1, Math.round(value));
}

export const UNIT_WORDS: Record<Unit, string> = {
  calls: "model calls",
  tokens: "tokens",
  cost: "cost",
  wall: "time",
  depth: "depth",
  children: "sub-runs",
  sandboxes: "sandboxes",
  iterations: "iterations",
};

/** The field of the limits that holds a unit's ceiling; iterations are a run's own and have none. */
export const UNIT_FIELD: Partial<Record<Unit, keyof Limits>> = {
  calls: "calls",
  tokens: "tokens",
  cost: "cost_usd",
  wall: "wall_s",
  depth: "depth",
  children: "children",
  sandboxes: "sandboxes",
};

/** Every limit by its name, null for none: what is left out of a command comes from the settings. */
export function allLimits(limits: Limits): Limits {
  const none = { calls: null, tokens: null, cost_usd: null, wall_s: null, children: null };
  return { ...none, ...DEFAULTS, ...limits };
}

/** Whether a unit's limit is higher after than before, or gone. */
export function isRaised(before: Limits, after: Limits, unit: Unit): boolean {
  const field = UNIT_FIELD[unit];
  if (!field) return true;
  const [was, is] = [before[field], after[field]];
  if (is == null) return !(field in DEFAULTS);
  return was != null && is > was;
}

/** The same limits with the one that was reached twice as high: a proposal, to be changed by hand. */
export function raised(limits: Limits, unit: Unit | null): Limits {
  const field = unit ? UNIT_FIELD[unit] : undefined;
  const now = field ? limits[field] : undefined;
  if (!field || now == null) return limits;
  return { ...limits, [field]: field === "depth" ? Math.min(8, now + 1) : now * 2 };
}

/** Only what differs. A limit that was taken away is null: no limit. */
export function changedLimits(before: Limits, after: Limits): Limits {
  const out: Record<string, number | null> = {};
  for (const key of Object.keys(UNIT_FIELD).map((unit) => UNIT_FIELD[unit as Unit])) {
    if (!key || before[key] === after[key]) continue;
    if (before[key] == null && after[key] == null) continue;
    // These two always have a limit: an empty field leaves it as it is.
    if ((key === "depth" || key === "sandboxes") && after[key] == null) continue;
    out[key] = after[key] ?? null;
  }
  return out as Limits;
}
