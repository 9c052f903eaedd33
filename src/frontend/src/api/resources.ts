import type { ContextRef } from "@/generated/events";
import { BASE, json, readError, request } from "./client";
import type { ModelChange, ModelSettings, SessionRow, StatusInfo, TestResult } from "./types";

export const getStatus = () => request<StatusInfo>("/status", {}, ["version", "configured"]);
export const listSessions = () =>
  request<{ sessions: SessionRow[] }>("/sessions", {}, ["sessions"]).then((body) => body.sessions);
export const createSession = (title?: string) =>
  request<SessionRow>("/sessions", json("POST", title ? { title } : {}), ["id"]);
export const renameSession = (sid: string, title: string) =>
  request<SessionRow>(`/sessions/${encodeURIComponent(sid)}`, json("PATCH", { title }));
export const deleteSession = (sid: string) =>
  request<void>(`/sessions/${encodeURIComponent(sid)}`, { method: "DELETE" });
export const getModels = () => request<ModelSettings>("/settings/models", {}, ["key", "suggestions"]);
export const putModels = (change: ModelChange) =>
  request<ModelSettings>("/settings/models", json("PUT", change), ["key", "suggestions"]);
export const testModels = (change: ModelChange) =>
  request<TestResult>("/settings/models/test", json("POST", change), ["ok", "steps"]);
export const addText = (name: string, text: string) =>
  request<ContextRef>("/contexts", json("POST", { name, text }), ["sha256"]);

export function readLines(sha: string, path: string, first: number, last: number) {
  const query = new URLSearchParams({ path, first: String(first), last: String(last) });
  return request<{ lines: string[] }>(`/contexts/${sha}/lines?${query}`, {}, ["lines"]).then(
    (body) => body.lines,
  );
}

/** The file and line that a character of a context lies in. */
export const readPlace = (sha: string, char: number) =>
  request<{ path: string; line: number }>(`/contexts/${sha}/place?char=${char}`, {}, ["path", "line"]);

export async function readBlob(ref: string, offset: number, limit: number): Promise<string> {
  const query = new URLSearchParams({ offset: String(offset), limit: String(limit) });
  const response = await fetch(`${BASE}/blobs/${encodeURIComponent(ref)}?${query}`);
  if (!response.ok) throw await readError(response);
  return response.text();
}
