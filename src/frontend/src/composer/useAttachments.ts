import { useMemo } from "react";
import { useWorkspace } from "@/workspace/store";
import { type Attachment, draftKey, fromContext, useDraft } from "./drafts";

/** The chips of the composer: what was attached, or the contexts of the session's last turn until they are touched. */
export function useAttachments(sid: string | null): Attachment[] {
  const { attachments } = useDraft(draftKey(sid));
  const last = useWorkspace((state) =>
    sid && state.bench?.sid === sid ? state.bench.turns[state.bench.turn_order.at(-1) ?? ""] : undefined,
  );
  const contexts = last?.contexts;
  return useMemo(() => attachments ?? contexts?.map(fromContext) ?? [], [attachments, contexts]);
}
