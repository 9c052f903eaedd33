/** RFC 4180 with any of , ; and tab. An unquoted empty field is null, so that it can be told from an empty text. */
export function parseTable(text: string, most = 5_001): (string | null)[][] {
  const first = text.slice(0, text.indexOf("\n") < 0 ? text.length : text.indexOf("\n"));
  const separator = [",", ";", "\t"].reduce((best, next) =>
    first.split(next).length > first.split(best).length ? next : best,
  );
  const rows: (string | null)[][] = [];
  let row: (string | null)[] = [];
  let at = 0;
  const size = text.length;
  while (at < size && rows.length < most) {
    let value: string | null;
    if (text[at] === '"') {
      value = "";
      at += 1;
      while (at < size) {
        const end = text.indexOf('"', at);
        if (end < 0) {
          value += text.slice(at);
          at = size;
          break;
        }
        value += text.slice(at, end);
        at = end + 1;
        if (text[at] !== '"') break;
        value += '"';
        at += 1;
      }
    } else {
      let end = at;
      while (end < size && text[end] !== separator && text[end] !== "\n" && text[end] !== "\r") end += 1;
      value = end > at ? text.slice(at, end) : null;
      at = end;
    }
    row.push(value);
    if (text[at] === separator) {
      at += 1;
      if (at < size) continue;
      row.push(null);
    }
    if (text[at] === "\r") at += 1;
    if (text[at] === "\n") at += 1;
    rows.push(row);
    row = [];
  }
  return rows;
}

/** Every value that is there is a number: shown at the right, sorted by size. */
export function isNumeric(rows: readonly (string | null)[][], column: number): boolean {
  let seen = false;
  for (const row of rows) {
    const value = row[column];
    if (value == null || value === "") continue;
    if (!/^\s*[-+]?[\d,]*\.?\d+(e[-+]?\d+)?\s*%?$/i.test(value)) return false;
    seen = true;
  }
  return seen;
}

export type Order = { column: number; down: boolean } | null;

const size = (value: string) => Number(value.replace(/[,%\s]/g, ""));

/** Sorted copy; what is missing comes last either way. */
export function sorted(rows: readonly (string | null)[][], order: Order): (string | null)[][] {
  if (!order) return [...rows];
  const { column, down } = order;
  const numeric = isNumeric(rows, column);
  return [...rows].sort((a, b) => {
    const [x, y] = [a[column] ?? null, b[column] ?? null];
    if (x === null || y === null) return x === y ? 0 : x === null ? 1 : -1;
    const by = numeric ? size(x) - size(y) : x.localeCompare(y);
    return down ? -by : by;
  });
}
