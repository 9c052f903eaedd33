import { useNavigate } from "@tanstack/react-router";
import { clsx } from "clsx";
import {
  type ClipboardEvent,
  type KeyboardEvent,
  lazy,
  Suspense,
  useEffect,
  useLayoutEffect,
  useRef,
  useState,
} from "react";
import { told } from "@/api/client";
import { useStatus } from "@/api/queries";
import { unsound } from "@/budget/unsound";
import { toast } from "@/shell/ui";
import { activeTurn } from "@/workspace/select";
import { useWorkspace } from "@/workspace/store";
import { AttachmentChips } from "./AttachmentChips";
import { attach, attachFiles } from "./attach";
import { ComposerBar } from "./ComposerBar";
import { draftKey, editDraft, getDraft, useDraft, useDrafts } from "./drafts";
import { sendDraft } from "./send";
import { useAttachments } from "./useAttachments";
import { useDrop } from "./useDrop";

const SetupCard = lazy(() => import("@/welcome/SetupCard"));

const PASTE_BYTES = 8_192;
const MAX_HEIGHT = 220;

function useGrowing(text: string) {
  const field = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    const element = field.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${Math.min(MAX_HEIGHT, element.scrollHeight)}px`;
    void text;
  }, [text]);
  return field;
}

/** Why the question cannot be sent; null when it can. A running upload is no obstacle: it is sent after it. */
function obstacle(text: string, failed: boolean, wrong: boolean): string | null {
  if (!text.trim()) return "Type a question first";
  if (wrong) return "A limit must be a number above 0";
  return failed ? "Remove the file that was not accepted" : null;
}

export function Composer({ sid, autoFocus }: { sid: string | null; autoFocus?: boolean }) {
  const key = draftKey(sid);
  const draft = useDraft(key);
  const attachments = useAttachments(sid);
  const running = useWorkspace(
    (state) => sid !== null && state.bench?.sid === sid && activeTurn(state.bench) !== null,
  );
  const held = useDrafts((state) => state.held === key);
  const { data: status } = useStatus();
  const navigate = useNavigate();
  const field = useGrowing(draft.text);
  const over = useDrop(key, attachments);
  const [sending, setSending] = useState(false);
  const uploading = attachments.some((entry) => entry.state === "uploading");
  const why = obstacle(
    draft.text,
    attachments.some((entry) => entry.state === "failed"),
    unsound(draft.limits),
  );
  const transmit = async () => {
    setSending(true);
    try {
      const session = await sendDraft(sid, getDraft(key), attachments);
      // The view follows the new turn, whatever was selected before.
      await navigate({ to: "/s/$sid", params: { sid: session }, search: {} });
    } catch (error) {
      toast(`Not sent: ${told(error)}`);
    }
    setSending(false);
  };
  const submit = () => {
    if (why || sending) return;
    if (uploading || (status && !status.configured)) useDrafts.setState({ held: key });
    else void transmit();
  };
  const configured = status?.configured ?? false;
  // biome-ignore lint/correctness/useExhaustiveDependencies: sends once, when nothing holds the question any more
  useEffect(() => {
    if (!held || !configured || uploading) return;
    useDrafts.setState({ held: null });
    if (!why) void transmit();
  }, [held, configured, uploading]);
  const onKey = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault();
      submit();
    }
    if (event.key === "Escape") event.currentTarget.blur();
  };
  const onPaste = (event: ClipboardEvent) => {
    const { files: pasted } = event.clipboardData;
    const text = event.clipboardData.getData("text/plain");
    if (pasted.length) {
      event.preventDefault();
      attachFiles(key, [...pasted], attachments);
    } else if (text.length > PASTE_BYTES) {
      event.preventDefault();
      const n = attachments.filter((entry) => entry.name.startsWith("pasted-")).length + 1;
      const name = `pasted-${n}.txt`;
      void attach(key, name, [{ file: new Blob([text], { type: "text/plain" }), path: name }], attachments);
    }
  };
  return (
    <div data-chrome className="mx-auto w-full max-w-[760px] shrink-0 px-4 pb-3">
      <Suspense>
        {held && !configured && (
          <SetupCard heldQuestion={draft.text} onDismiss={() => useDrafts.setState({ held: null })} />
        )}
      </Suspense>
      <form
        aria-label="Ask a question"
        data-testid="composer"
        onSubmit={(event) => {
          event.preventDefault();
          submit();
        }}
        className={clsx(
          "relative rounded-lg border bg-panel shadow-[0_1px_3px_oklch(24%_0.02_262/0.06)] focus-within:border-accent",
          over ? "border-accent" : "border-line-strong",
        )}
      >
        {over && (
          <div
            className="pointer-events-none absolute inset-0 z-10 grid place-items-center rounded-lg bg-accent-soft text-sm font-medium text-accent"
            data-testid="drop-hint"
          >
            Drop files or a folder: they become contexts
          </div>
        )}
        <AttachmentChips attachments={attachments} keyOf={key} />
        <textarea
          ref={field}
          id="composer"
          data-testid="question-input"
          aria-label="Question"
          placeholder={
            attachments.length
              ? "Ask about the attached context"
              : "Ask a question, or drop a file or folder to ask about"
          }
          rows={1}
          // biome-ignore lint/a11y/noAutofocus: the start page is a question field, nothing comes before it
          autoFocus={autoFocus}
          className="block min-h-11 w-full resize-none bg-transparent px-3.5 pt-3 pb-1 text-base outline-none"
          value={draft.text}
          onChange={(event) => editDraft(key, { text: event.target.value })}
          onKeyDown={onKey}
          onPaste={onPaste}
        />
        <ComposerBar
          draft={draft}
          keyOf={key}
          attachments={attachments}
          running={running}
          sending={sending}
          why={why}
        >
          {held && configured ? (
            "Will be sent when the upload is done"
          ) : running ? (
            "Enter queues the question"
          ) : (
            <span className="max-sm:hidden">{status?.model_label ?? status?.model ?? ""}</span>
          )}
        </ComposerBar>
      </form>
    </div>
  );
}
