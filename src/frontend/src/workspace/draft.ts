import type { Workbench } from "./state";

type Table = {
  [K in keyof Workbench]: Workbench[K] extends Record<string, infer V>
    ? V extends object
      ? K
      : never
    : never;
}[keyof Workbench];
type Row<T extends Table> = Workbench[T] extends Record<string, infer V> ? V : never;

/**
 * Copy-on-write over one batch of events: tables and rows are copied the first time the batch touches them,
 * so a frame costs one copy however many deltas it carries, and untouched rows keep their identity.
 */
export class Draft {
  readonly state: Workbench;
  private readonly owned = new Set<object>();

  constructor(base: Workbench) {
    this.state = { ...base };
  }

  private table<T extends Table>(name: T): Record<string, Row<T>> {
    let table = this.state[name] as Record<string, Row<T>>;
    if (!this.owned.has(table)) {
      table = { ...table };
      this.owned.add(table);
      (this.state as Record<Table, unknown>)[name] = table;
    }
    return table;
  }

  put<T extends Table>(name: T, id: string, row: Row<T>): void {
    this.table(name)[id] = row;
    this.owned.add(row as object);
  }

  /** A row that may be changed in place, or undefined when the journal never announced it. */
  edit<T extends Table>(name: T, id: string | null | undefined): Row<T> | undefined {
    if (!id) return undefined;
    const row = (this.state[name] as Record<string, Row<T>>)[id];
    if (row === undefined) return undefined;
    if (this.owned.has(row as object)) return row;
    const copy = { ...row };
    this.put(name, id, copy);
    return copy;
  }

  /** Append to a list of a row; the list is copied once per batch. */
  push<V>(list: V[], value: V): V[] {
    if (this.owned.has(list)) {
      list.push(value);
      return list;
    }
    const copy = [...list, value];
    this.owned.add(copy);
    return copy;
  }
}
