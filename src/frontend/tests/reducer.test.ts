import { beforeAll, describe, expect, it } from "vitest";
import type { FleetEvent } from "../src/generated/events";
import { reduce } from "../src/workspace/reducer";
import { emptyWorkbench, type Workbench } from "../src/workspace/state";
import { fixtures, plays, type Recorded, wideEvents } from "./journals";

/** A small seeded generator, so that a failing cut can be made again. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296;
    return state / 4_294_967_296;
  };
}

function start(events: FleetEvent[]): Workbench {
  return emptyWorkbench(events[0]?.sid ?? "");
}

/** Without nothings, as the recorded states are: the Python side leaves default values of events out. */
function bare(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(bare);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value).flatMap(([key, inner]) => {
    const small = bare(inner);
    return empty(small) ? [] : [[key, small] as const];
  });
  return Object.fromEntries(kept);
}

function empty(value: unknown): boolean {
  if (typeof value === "object" && value !== null) return Object.keys(value).length === 0;
  return value === null || value === undefined || value === 0 || value === false || value === "";
}

/** Deliver in random pieces; pieces repeat, and a piece may begin before the cursor, as after a reconnect. */
function torn(events: FleetEvent[], next: () => number): Workbench {
  let state = start(events);
  while (state.seq < events.length) {
    const back = Math.floor(next() * 40);
    const from = Math.max(0, state.seq - back);
    const piece = events.slice(from, from + 1 + Math.floor(next() * 90));
    state = reduce(state, piece);
    if (next() < 0.3) state = reduce(state, piece);
    if (next() < 0.2) state = reduce(state, events.slice(state.seq + 3, state.seq + 9));
  }
  return state;
}

describe("reducer", () => {
  let all: Recorded[] = [];
  beforeAll(async () => {
    all = [...fixtures(), ...(await plays())];
  });

  it("agrees with the Python reducer on every recorded journal", () => {
    const shared = fixtures().filter((journal) => journal.state !== null);
    expect(shared.length).toBeGreaterThan(0);
    for (const { name, events, state } of shared) {
      expect(bare(reduce(start(events), events)), name).toEqual(bare(state));
    }
  });

  it("ends in the same state however the journal is cut and repeated", () => {
    for (const { name, events } of all) {
      const whole = reduce(start(events), events);
      for (let seed = 1; seed <= 25; seed += 1) {
        expect(torn(events, random(seed)), `${name}, seed ${seed}`).toEqual(whole);
      }
    }
  });

  it("never changes a state that it gave away", () => {
    const { events } = all.find((journal) => journal.name === "search") as Recorded;
    const half = reduce(start(events), events.slice(0, 200));
    const copy = structuredClone(half);
    reduce(half, events.slice(200));
    expect(half).toEqual(copy);
  });

  it("keeps the identity of rows that a batch does not touch", () => {
    const { events } = all.find((journal) => journal.name === "search") as Recorded;
    const cut = events.findIndex((event) => event.type === "message.delta");
    const before = reduce(start(events), events.slice(0, cut));
    const after = reduce(before, events.slice(cut, cut + 3));
    expect(after).not.toBe(before);
    expect(after.runs).toBe(before.runs);
    expect(after.cells).toBe(before.cells);
  });

  it("stops at a gap, so that the caller can see from seq what is missing", () => {
    const { events } = all[0] as Recorded;
    const state = reduce(start(events), [...events.slice(0, 5), ...events.slice(6, 9)]);
    expect(state.seq).toBe(5);
  });

  it("counts an unknown event and advances", () => {
    const { events } = all[0] as Recorded;
    const odd = { ...(events[1] as FleetEvent), type: "future.kind", data: {} } as unknown as FleetEvent;
    const state = reduce(start(events), [events[0] as FleetEvent, odd]);
    expect([state.seq, state.unknown_events]).toEqual([2, 1]);
  });

  it("holds 5,000 runs, with every run under its parent", async () => {
    const events = await wideEvents(5_000);
    let state = start(events);
    for (let i = 0; i < events.length; i += 500) state = reduce(state, events.slice(i, i + 500));
    expect(Object.keys(state.runs)).toHaveLength(5_000);
    const root = Object.values(state.runs).find((run) => run.parent === null);
    expect(root?.children).toHaveLength(4_999);
  });
});
