import type { ErrorBody } from "@/api/types";
import type { Command } from "./frames";
import { uuid7 } from "./ids";

const KEY = "fleet.outbox";

export type OutboxItem = Command & {
  id: string;
  sid: string;
  created: number;
  state: "waiting" | "sent" | "failed";
  /** The turn that the server named in its answer. */
  turn: string | null;
  error: ErrorBody | null;
};

/** Commands that the journal has not confirmed yet. They survive a reload and are sent again under the same id. */
export class Outbox {
  private items: OutboxItem[];

  constructor(
    private readonly changed: (items: OutboxItem[]) => void,
    private readonly storage: Storage | null,
  ) {
    this.items = this.load();
    if (this.items.length) changed(this.items);
  }

  add(sid: string, command: Command): OutboxItem {
    const item: OutboxItem = {
      ...command,
      id: uuid7(),
      sid,
      created: Date.now(),
      state: "waiting",
      turn: null,
      error: null,
    };
    this.set([...this.items, item]);
    return item;
  }

  waiting(sid: string): OutboxItem[] {
    return this.items.filter((item) => item.sid === sid && item.state === "waiting");
  }

  acknowledge(id: string, answer: { ok: boolean; turn?: string; error?: ErrorBody }): void {
    this.change(id, (item) =>
      answer.ok
        ? item.op === "turn.start"
          ? { ...item, state: "sent", turn: answer.turn ?? null }
          : null
        : item.op === "turn.start"
          ? {
              ...item,
              state: "failed",
              error: answer.error ?? { code: "refused", message: "The server refused this." },
            }
          : null,
    );
  }

  /** The journal has these turns: what asked for them is done. */
  confirm(sid: string, turns: Iterable<{ id: string; command: string | null }>): void {
    if (!this.items.some((item) => item.sid === sid)) return;
    const commands = new Set<string>();
    const ids = new Set<string>();
    for (const turn of turns) {
      ids.add(turn.id);
      if (turn.command) commands.add(turn.command);
    }
    const left = this.items.filter(
      (item) => item.sid !== sid || !(commands.has(item.id) || (item.turn !== null && ids.has(item.turn))),
    );
    if (left.length !== this.items.length) this.set(left);
  }

  retry(id: string): void {
    this.change(id, (item) => ({ ...item, id: uuid7(), state: "waiting", error: null }));
  }

  drop(id: string): void {
    this.change(id, () => null);
  }

  private change(id: string, how: (item: OutboxItem) => OutboxItem | null): void {
    this.set(
      this.items.flatMap((item) => {
        if (item.id !== id) return [item];
        const next = how(item);
        return next ? [next] : [];
      }),
    );
  }

  private set(items: OutboxItem[]): void {
    this.items = items;
    try {
      this.storage?.setItem(KEY, JSON.stringify(items));
    } catch {
      // A full or forbidden store only costs the survival of a reload.
    }
    this.changed(items);
  }

  private load(): OutboxItem[] {
    try {
      const stored = JSON.parse(this.storage?.getItem(KEY) ?? "[]") as OutboxItem[];
      return stored.filter((item) => item.id && item.sid && item.op && item.state !== "failed");
    } catch {
      return [];
    }
  }
}
