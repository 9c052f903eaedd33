const count = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function number(value: number): string {
  return count.format(value);
}

/** 950 -> "950", 12_345 -> "12.3k", 4_200_000 -> "4.2M". */
export function compact(value: number): string {
  if (value < 1_000) return String(Math.round(value));
  if (value < 999_500) return `${trim(value / 1_000)}k`;
  return `${trim(value / 1_000_000)}M`;
}

function trim(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(1).replace(/\.0$/, "");
}

export function bytes(value: number): string {
  if (value < 1_000) return `${value} B`;
  if (value < 999_500) return `${trim(value / 1_000)} kB`;
  if (value < 999_500_000) return `${trim(value / 1_000_000)} MB`;
  return `${trim(value / 1_000_000_000)} GB`;
}

/** Milliseconds for people: "84 ms", "1.2 s", "2 m 05 s". */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} m ${pad(seconds % 60)} s`;
  return `${Math.floor(seconds / 3_600)} h ${pad(Math.floor((seconds % 3_600) / 60))} m`;
}

export function clock(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  return `${pad(Math.floor(seconds / 60))}:${pad(seconds % 60)}`;
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}

/** Dollars; an unknown price is unknown, never zero. */
export function cost(value: number | null | undefined): string {
  if (value == null) return "unknown";
  if (value === 0) return "free";
  if (value < 0.01) return `$${value.toFixed(4)}`;
  return `$${value.toFixed(2)}`;
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${number(n)} ${n === 1 ? one : many}`;
}

const DAY = 86_400_000;

export function relative(then: number, now: number): string {
  const ms = Math.max(0, now - then);
  if (ms < 60_000) return "just now";
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ago`;
  if (ms < DAY) return `${Math.floor(ms / 3_600_000)} h ago`;
  if (ms < 7 * DAY) return `${Math.floor(ms / DAY)} d ago`;
  return new Date(then).toLocaleDateString("en", { day: "numeric", month: "short" });
}

export type Period = "Today" | "Yesterday" | "Last 7 days" | "Older";

export function period(then: number, now: number): Period {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  if (then >= midnight) return "Today";
  if (then >= midnight - DAY) return "Yesterday";
  return then >= midnight - 6 * DAY ? "Last 7 days" : "Older";
}

export function percentile(sorted: readonly number[], fraction: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? 0;
}

/** Some 4 characters a token: an estimate, always shown with "≈". */
export function tokensOf(chars: number): string {
  return `≈ ${compact(chars / 4)} tokens`;
}
