import { diffLines, diffWordsWithSpace } from "diff";

export interface Piece {
  text: string;
  kind: "same" | "added" | "removed";
}

export interface DiffLine {
  kind: "same" | "added" | "removed" | "gap";
  /** 1-based numbers at each side; null where the line is not there. */
  before: number | null;
  after: number | null;
  pieces: Piece[];
  /** For a gap: how many equal lines it stands for. */
  hidden?: number;
}

const CONTEXT = 3;
/** Longer lines are not compared word by word: that costs the square of their length. */
const WORDS = 4_000;

function ended(text: string): string {
  return text === "" || text.endsWith("\n") ? text : `${text}\n`;
}

function lines(text: string): string[] {
  return text.replace(/\n$/, "").split("\n");
}

/** A removed and an added line beside each other, with the words that differ. */
function words(old: string, next: string): [Piece[], Piece[]] {
  if (old.length > WORDS || next.length > WORDS)
    return [[{ text: old, kind: "removed" }], [{ text: next, kind: "added" }]];
  const parts = diffWordsWithSpace(old, next);
  const side = (skip: "added" | "removed") =>
    parts
      .filter((part) => !part[skip])
      .map(
        (part): Piece => ({
          text: part.value,
          kind: part.added ? "added" : part.removed ? "removed" : "same",
        }),
      );
  return [side("added"), side("removed")];
}

function every(before: string, after: string): DiffLine[] {
  const out: DiffLine[] = [];
  const at = { before: 0, after: 0 };
  const parts = diffLines(ended(before), ended(after));
  for (let i = 0; i < parts.length; i += 1) {
    const part = parts[i];
    if (!part) continue;
    const next = parts[i + 1];
    if (!part.added && !part.removed) {
      for (const text of lines(part.value)) {
        at.before += 1;
        at.after += 1;
        out.push({ kind: "same", before: at.before, after: at.after, pieces: [{ text, kind: "same" }] });
      }
      continue;
    }
    const old = part.removed ? lines(part.value) : [];
    const fresh = part.added ? lines(part.value) : next?.added ? lines(next.value) : [];
    if (part.removed && next?.added) i += 1;
    const pairs = old.length === fresh.length ? old.map((text, n) => words(text, fresh[n] ?? "")) : null;
    old.forEach((text, n) => {
      at.before += 1;
      const pieces = pairs?.[n]?.[0] ?? [{ text, kind: "same" as const }];
      out.push({ kind: "removed", before: at.before, after: null, pieces });
    });
    fresh.forEach((text, n) => {
      at.after += 1;
      const pieces = pairs?.[n]?.[1] ?? [{ text, kind: "same" as const }];
      out.push({ kind: "added", before: null, after: at.after, pieces });
    });
  }
  return out;
}

/** Two texts as one list of lines, with long equal stretches folded to three lines at each end. */
export function diffOf(before: string, after: string, whole = false): DiffLine[] {
  const all = every(before, after);
  if (whole) return all;
  const near = new Array<boolean>(all.length).fill(false);
  all.forEach((line, at) => {
    if (line.kind === "same") return;
    for (let i = Math.max(0, at - CONTEXT); i <= Math.min(all.length - 1, at + CONTEXT); i += 1)
      near[i] = true;
  });
  const out: DiffLine[] = [];
  for (let at = 0; at < all.length; at += 1) {
    const line = all[at];
    if (!line) continue;
    if (near[at]) {
      out.push(line);
      continue;
    }
    const last = out.at(-1);
    if (last?.kind === "gap") last.hidden = (last.hidden ?? 0) + 1;
    else out.push({ kind: "gap", before: null, after: null, pieces: [], hidden: 1 });
  }
  return out;
}

export function isSame(before: string, after: string): boolean {
  return before.trimEnd() === after.trimEnd();
}
