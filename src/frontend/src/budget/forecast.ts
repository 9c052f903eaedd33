import type { TurnView, Workbench } from "@/workspace/state";

/**
 * How far a running turn is, 0 to 1, by its sub-runs: those that ended over those that are announced. A batch tells
 * how many it will be, so runs that have not started count too. Null while fewer than three have ended.
 */
export function progressOf(bench: Workbench, turn: TurnView): number | null {
  if (turn.status !== "running") return null;
  let done = 0;
  let known = 0;
  const sites = new Map<string, [started: number, of: number]>();
  for (const id of turn.runs.slice(1)) {
    const run = bench.runs[id];
    if (!run) continue;
    known += 1;
    if (run.status !== "running") done += 1;
    const { site } = run;
    if (!site || (site.of ?? 1) < 2) continue;
    const key = `${run.parent}/${site.cell}/${site.function}`;
    const [started] = sites.get(key) ?? [0, 0];
    sites.set(key, [started + 1, site.of ?? 1]);
  }
  for (const [started, of] of sites.values()) known += Math.max(0, of - started);
  return done < 3 ? null : done / known;
}

/** What `used` comes to at the end, if the rest needs as much as what is done. */
export function forecast(used: number | null, progress: number | null): number | null {
  return used === null || progress === null || progress <= 0 || progress >= 1 ? null : used / progress;
}
