import type { Citation, ErrorInfo, Limits, Mode, TurnStatus, Unit, Usage } from "@/generated/events";

export interface SessionRow {
  id: string;
  title: string;
  created_ms: number;
  updated_ms: number;
  head: number;
  epoch: string;
  active_turn: string | null;
  turns: number;
  cost_usd: number | null;
}

export interface StatusInfo {
  version: string;
  provider: string;
  isolation: string | null;
  isolation_detail: string | null;
  model: string | null;
  model_label: string | null;
  demo: boolean;
  configured: boolean;
  active_turns: number;
  live_sandboxes: number;
  limits: Limits;
  modes: Mode[];
  warnings: string[];
}

export interface TurnInfo {
  turn: string;
  session: string;
  status: "running" | TurnStatus;
  answer: string | null;
  usage: Usage;
  limit: Unit | null;
  error: ErrorInfo | null;
  citations: Citation[];
}

export interface Suggestion {
  model: string;
  label: string;
  kind: "env" | "local" | "demo";
  api_base: string | null;
  ready: boolean;
}

export interface ModelSettings {
  model: string | null;
  sub_model: string | null;
  api_base: string | null;
  key: { set: boolean; ends: string | null; source: string | null };
  sources: Record<string, string>;
  suggestions: Suggestion[];
}

export interface ModelChange {
  model?: string | null;
  sub_model?: string | null;
  api_base?: string | null;
  api_key?: string | null;
}

export interface TestStep {
  name: string;
  ok: boolean;
  ms: number;
  detail: string;
  fix: string | null;
}

export interface TestResult {
  ok: boolean;
  steps: TestStep[];
}

export interface ErrorBody {
  code: string;
  message: string;
  hint?: string | null;
  request_id?: string | null;
}
