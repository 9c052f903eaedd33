import type { ErrorBody } from "@/api/types";
import type { FleetEvent, Limits, Mode } from "@/generated/events";

export type ControlFrame =
  | { type: "welcome"; epoch?: string; heartbeat_ms: number }
  | {
      type: "subscribed";
      sid: string;
      mode: "replay" | "snapshot";
      from: number;
      head: number;
      epoch?: string;
    }
  | { type: "caught_up"; sid?: string; seq: number }
  | { type: "snapshot"; sid: string; epoch: string; seq: number; state: unknown }
  | ({ type: "ack"; id: string } & Ack)
  | { type: "heartbeat"; ts: number }
  | { type: "sessions.changed" }
  | { type: "error"; sid?: string; code: string; message: string; hint?: string | null };

export interface TurnStart {
  question: string;
  mode: Mode;
  model?: string;
  sub_model?: string;
  limits?: Limits;
  contexts: string[];
}

/** What a fork does differently from there on: one of these, or several. */
export interface ForkEdit {
  question?: string;
  cell?: { id: string; code: string };
  prompt?: { call: string; text: string };
  model?: string;
  sub_model?: string;
  limits?: Limits;
}

export type Command =
  | { op: "turn.start"; args: TurnStart }
  | { op: "turn.cancel"; args: { turn: string } }
  | { op: "run.cancel"; args: { turn: string; run: string } }
  | { op: "approve"; args: { turn: string; approval: string; answer: string } }
  | { op: "budget.set"; args: { turn: string; limits: Limits } }
  | { op: "turn.resume"; args: { turn: string; limits?: Limits } }
  | { op: "turn.replay"; args: { turn: string } }
  | { op: "fork"; args: { turn: string; at?: number; edit: ForkEdit } }
  | { op: "memory.set"; args: { block: string; text: string | null } }
  | { op: "memory.undo"; args: { seq: number } };

/** The server's answer to a command. `session` and `turn` name what it made. */
export interface Ack {
  ok: boolean;
  session?: string;
  turn?: string;
  seq?: number;
  error?: ErrorBody;
}

export interface Received {
  events: FleetEvent[];
  control: ControlFrame | null;
}

function isEvent(value: unknown): value is FleetEvent {
  if (typeof value !== "object" || value === null) return false;
  const frame = value as Record<string, unknown>;
  return typeof frame.seq === "number" && typeof frame.sid === "string" && typeof frame.data === "object";
}

/** Text of a frame -> events or one control frame. Anything else is dropped: it must never move the cursor. */
export function readFrame(text: string): Received {
  const value: unknown = JSON.parse(text);
  if (Array.isArray(value)) return { events: value.filter(isEvent), control: null };
  if (isEvent(value)) return { events: [value], control: null };
  const typed = value as { type?: unknown } | null;
  return { events: [], control: typed && typeof typed.type === "string" ? (value as ControlFrame) : null };
}
