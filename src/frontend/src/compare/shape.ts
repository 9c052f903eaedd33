import { request } from "@/api/client";
import type { RunKind, TurnStatus, Usage } from "@/generated/events";

/** One of the two turns. */
export interface Side {
  session: string;
  turn: string;
  question: string;
  model: string;
  status: "running" | TurnStatus;
  answer: string | null;
  usage: Usage;
  runs: number;
  iterations: number;
}

/** A run at one side; `cells` are the codes of its cells in order. */
export interface SideRun {
  run: string;
  task: string;
  kind: RunKind;
  model: string;
  status: "running" | TurnStatus;
  usage: Usage;
  output: string | null;
  cells: string[];
  /** Its output came from an earlier turn's journal: no cell of it was run, and nothing below it. */
  replayed: boolean;
}

export type Change = "same" | "changed" | "added" | "removed";

/** A place of the tree at both sides; null where there is no run at it. */
export interface RunPair {
  path: string;
  change: Change;
  a: SideRun | null;
  b: SideRun | null;
}

export interface TurnDiff {
  a: Side;
  b: Side;
  runs: RunPair[];
}

export const getDiff = (a: string, b: string) =>
  request<TurnDiff>(`/turns/${encodeURIComponent(a)}/diff/${encodeURIComponent(b)}`, {}, ["a", "b", "runs"]);

/** What there is to compare of two runs, by name. */
export function textsOf({ a, b }: RunPair): [name: string, before: string, after: string][] {
  const ran = !a?.replayed && !b?.replayed;
  const cells = ran ? Math.max(a?.cells.length ?? 0, b?.cells.length ?? 0) : 0;
  return [
    ["Task", a?.task ?? "", b?.task ?? ""],
    ...Array.from({ length: cells }, (_, i): [string, string, string] => [
      `Cell ${i + 1}`,
      a?.cells[i] ?? "",
      b?.cells[i] ?? "",
    ]),
    ["Output", a?.output ?? "", b?.output ?? ""],
  ];
}

/** Places in the order of the tree: "0/2" before "0/10", a parent before its children. */
export function byPath(x: RunPair, y: RunPair): number {
  return x.path.localeCompare(y.path, "en", { numeric: true });
}

export function depthOf(path: string): number {
  return Math.max(0, path.split("/").length - 1);
}

/** A turn's id from what a person pastes: the id itself, or a link to it. */
export function turnOf(text: string): string | null {
  const linked = /[?&]turn=([\w-]+)/.exec(text)?.[1];
  const plain = text.trim();
  return linked ?? (/^[\w-]{6,80}$/.test(plain) ? plain : null);
}
