import { createSession } from "@/api/resources";
import { live, queries } from "@/app";
import type { Limits } from "@/generated/events";
import type { TurnStart } from "@/transport/frames";
import { readyContexts } from "./attach";
import { type Attachment, type Draft, draftKey, editDraft } from "./drafts";

const TITLE = 60;

export function titleOf(question: string): string {
  const line = question.trim().replace(/\s+/g, " ");
  return line.length > TITLE ? `${line.slice(0, TITLE - 1).trimEnd()}…` : line;
}

/** Only the limits that the person set; the server's defaults stay the server's. */
export function chosenLimits(limits: Limits): Limits | undefined {
  const set = Object.entries(limits).filter(([, value]) => value !== undefined && value !== null);
  return set.length ? (Object.fromEntries(set) as Limits) : undefined;
}

function startOf(draft: Draft, attachments: readonly Attachment[]): TurnStart {
  const limits = chosenLimits(draft.limits);
  return {
    question: draft.text.trim(),
    mode: draft.mode,
    contexts: readyContexts(attachments).map((ref) => ref.sha256),
    ...(limits ? { limits } : {}),
  };
}

/**
 * Send a draft. On the start page the session is made first; the question itself goes through the outbox, so a
 * lost connection or a reload cannot lose or double it. Gives back the session.
 */
export async function sendDraft(
  sid: string | null,
  draft: Draft,
  attachments: Attachment[],
): Promise<string> {
  const args = startOf(draft, attachments);
  const session = sid ?? (await createSession(titleOf(draft.text))).id;
  void live.command(session, { op: "turn.start", args });
  // The contexts stay: the next question in a session is usually about the same documents.
  editDraft(draftKey(session), {
    ...draft,
    text: "",
    attachments: attachments.filter((entry) => entry.state === "ready"),
  });
  if (!sid) {
    editDraft(draftKey(null), { text: "", attachments: null });
    void queries.invalidateQueries({ queryKey: ["sessions"] });
  }
  return session;
}
