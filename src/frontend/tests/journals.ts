import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { renewals } from "../dev/engine.mjs";
import { failing, limited, recorded, search, wide } from "../dev/scenarios.mjs";
import type { FleetEvent } from "../src/generated/events";

const FIXTURES = join(import.meta.dirname, "../../../tests/fixtures/journals");

export interface Recorded {
  name: string;
  events: FleetEvent[];
  /** The state that the Python reducer makes of it, where it is recorded. */
  state: Record<string, unknown> | null;
}

function lines(text: string): FleetEvent[] {
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as FleetEvent);
}

/** The journals that both reducers must pass: `name.jsonl` with `name.state.json`. */
export function fixtures(): Recorded[] {
  if (!existsSync(FIXTURES)) return [];
  return readdirSync(FIXTURES)
    .filter((file) => file.endsWith(".jsonl"))
    .map((file) => {
      const name = file.slice(0, -".jsonl".length);
      const state = join(FIXTURES, `${name}.state.json`);
      return {
        name,
        events: lines(readFileSync(join(FIXTURES, file), "utf8")),
        state: existsSync(state)
          ? (JSON.parse(readFileSync(state, "utf8")) as Record<string, unknown>)
          : null,
      };
    });
}

export async function plays(): Promise<Recorded[]> {
  const all: [string, (player: unknown) => Promise<void>][] = [
    ["search", search],
    ["failing", failing],
    ["limited", limited],
    ["renewals", renewals],
  ];
  const out: Recorded[] = [];
  for (const [name, play] of all) {
    const journal = await recorded(`ses_${name}`, name, 60_000, play);
    out.push({ name, events: journal.events as FleetEvent[], state: null });
  }
  return out;
}

export async function wideEvents(runs: number): Promise<FleetEvent[]> {
  const journal = await recorded("ses_wide", "wide", 60_000, (player: unknown) => wide(player, { runs }));
  return journal.events as FleetEvent[];
}

/** A broken-off turn and its resumption: artifacts, memory, thoughts, coverage. */
export async function engineEvents(): Promise<FleetEvent[]> {
  const journal = await recorded("ses_renew", "renew", 60_000, renewals);
  return journal.events as FleetEvent[];
}
