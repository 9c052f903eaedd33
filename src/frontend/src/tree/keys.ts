import type { Opened, Row } from "@/workspace/tree";

export interface KeyResult {
  focus?: string;
  opened?: Opened;
  select?: string;
}

function isOpenable(row: Row): boolean {
  return row.kind === "group" || row.childCount > 0;
}

function parentIndex(rows: Row[], index: number): number {
  const depth = rows[index]?.depth ?? 0;
  for (let i = index - 1; i >= 0; i -= 1) if ((rows[i]?.depth ?? 0) < depth) return i;
  return index;
}

function label(row: Row): string {
  return (row.kind === "group" ? row.name : row.run.task).toLowerCase();
}

/** The next row whose text begins with the typed letter, after the current one and round the end. */
function typeAhead(rows: Row[], index: number, letter: string): Row | undefined {
  for (let step = 1; step <= rows.length; step += 1) {
    const row = rows[(index + step) % rows.length];
    if (row && label(row).startsWith(letter)) return row;
  }
  return undefined;
}

function siblings(rows: Row[], row: Row): Opened {
  const out: Record<string, boolean> = {};
  for (const other of rows)
    if (other.depth === row.depth && other.parent === row.parent && isOpenable(other)) out[other.id] = true;
  return out;
}

/** The keys of a WAI-ARIA tree. Null when the key means nothing here. */
export function treeKey(key: string, rows: Row[], focused: string | null, page = 12): KeyResult | null {
  if (!rows.length) return null;
  const index = Math.max(
    0,
    rows.findIndex((row) => row.id === focused),
  );
  const row = rows[index];
  if (!row) return null;
  const to = (i: number): KeyResult => ({ focus: rows[Math.min(rows.length - 1, Math.max(0, i))]?.id });
  switch (key) {
    case "ArrowDown":
      return to(index + 1);
    case "ArrowUp":
      return to(index - 1);
    case "PageDown":
      return to(index + page);
    case "PageUp":
      return to(index - page);
    case "Home":
      return to(0);
    case "End":
      return to(rows.length - 1);
    case "ArrowRight":
      if (!isOpenable(row)) return {};
      return row.expanded ? to(index + 1) : { opened: { [row.id]: true } };
    case "ArrowLeft":
      return row.expanded && isOpenable(row) ? { opened: { [row.id]: false } } : to(parentIndex(rows, index));
    case "*":
      return { opened: siblings(rows, row) };
    case "Enter":
    case " ":
      return row.kind === "group" ? { opened: { [row.id]: !row.expanded } } : { select: row.id };
    default:
      if (key.length !== 1 || "?/t".includes(key)) return null;
      return { focus: typeAhead(rows, index, key.toLowerCase())?.id };
  }
}
