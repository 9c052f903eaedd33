import { create } from "zustand";
import type { ErrorBody } from "@/api/types";
import type { ContextRef, Limits, Mode } from "@/generated/events";

export interface Attachment {
  id: string;
  name: string;
  bytes: number;
  files: number;
  state: "uploading" | "ready" | "failed";
  /** 0 to 1 while uploading. */
  progress: number;
  ref: ContextRef | null;
  error: ErrorBody | null;
}

export interface Draft {
  text: string;
  mode: Mode;
  limits: Limits;
  /** Null: not touched yet, so the contexts of the session's last turn are offered again. */
  attachments: Attachment[] | null;
}

const EMPTY: Draft = { text: "", mode: "auto", limits: {}, attachments: null };
const KEY = "fleet.drafts";

function load(): Record<string, Draft> {
  try {
    const raw = JSON.parse(sessionStorage.getItem(KEY) ?? "{}") as Record<string, Draft>;
    for (const draft of Object.values(raw)) {
      draft.attachments = draft.attachments?.filter((entry) => entry.state === "ready") ?? null;
    }
    return raw;
  } catch {
    return {};
  }
}

interface Drafts {
  drafts: Record<string, Draft>;
  /** The draft that waits for a model to be set up, and is sent as soon as there is one. */
  held: string | null;
}

export const useDrafts = create<Drafts>(() => ({ drafts: load(), held: null }));

let saveDue = false;

function save(): void {
  saveDue = false;
  try {
    sessionStorage.setItem(KEY, JSON.stringify(useDrafts.getState().drafts));
  } catch {
    // A draft that is too large to store only does not survive a reload.
  }
}

useDrafts.subscribe(() => {
  if (saveDue) return;
  saveDue = true;
  setTimeout(save, 300);
});

/** The key of the draft: a session, or the start page. */
export function draftKey(sid: string | null): string {
  return sid ?? "new";
}

export function getDraft(key: string): Draft {
  return useDrafts.getState().drafts[key] ?? EMPTY;
}

export function useDraft(key: string): Draft {
  return useDrafts((state) => state.drafts[key] ?? EMPTY);
}

export function editDraft(key: string, change: Partial<Draft>): void {
  useDrafts.setState(({ drafts }) => ({
    drafts: { ...drafts, [key]: { ...(drafts[key] ?? EMPTY), ...change } },
  }));
}

export function editAttachment(key: string, id: string, change: Partial<Attachment>): void {
  const { attachments } = getDraft(key);
  if (!attachments) return;
  editDraft(key, {
    attachments: attachments.map((entry) => (entry.id === id ? { ...entry, ...change } : entry)),
  });
}

export function fromContext(ref: ContextRef): Attachment {
  return {
    id: ref.sha256,
    name: ref.name,
    bytes: ref.bytes,
    files: ref.files ?? 1,
    state: "ready",
    progress: 1,
    ref,
    error: null,
  };
}
