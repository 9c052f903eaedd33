import { ArrowUp, FileUp, FolderUp, Plus, Square } from "lucide-react";
import { type ReactNode, useRef } from "react";
import { stopActive } from "@/shell/keyboard";
import { Button, IconButton } from "@/ui/Button";
import { Menu } from "@/ui/Menu";
import { attachFiles } from "./attach";
import type { Attachment, Draft } from "./drafts";
import { ModePicker, OptionsButton } from "./Options";

interface BarProps {
  draft: Draft;
  keyOf: string;
  attachments: Attachment[];
  running: boolean;
  sending: boolean;
  /** Why the question cannot be sent yet; null when it can. */
  why: string | null;
  children: ReactNode;
}

/** The line below the question: add, mode, limits, a note, stop and send. */
export function ComposerBar({ draft, keyOf, attachments, running, sending, why, children }: BarProps) {
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  const input = {
    type: "file",
    multiple: true,
    hidden: true,
    onChange: (event: { target: HTMLInputElement }) => {
      attachFiles(keyOf, [...(event.target.files ?? [])], attachments);
      event.target.value = "";
    },
  };
  return (
    <div className="flex items-center gap-1 px-2 pb-2">
      <Menu
        align="start"
        side="top"
        trigger={
          <IconButton label="Add context" data-testid="add-context">
            <Plus size={16} aria-hidden="true" />
          </IconButton>
        }
        items={[
          { label: "Files…", icon: <FileUp size={14} />, onSelect: () => files.current?.click() },
          { label: "Folder…", icon: <FolderUp size={14} />, onSelect: () => folder.current?.click() },
        ]}
      />
      <ModePicker mode={draft.mode} keyOf={keyOf} />
      <OptionsButton draft={draft} keyOf={keyOf} />
      <span className="min-w-0 flex-1 truncate px-1 text-right text-2xs text-muted">{children}</span>
      {running && (
        <Button
          look="danger"
          className="h-8 px-2.5"
          data-testid="stop"
          icon={<Square size={12} fill="currentColor" aria-hidden="true" />}
          onClick={stopActive}
        >
          Stop
        </Button>
      )}
      {(!running || draft.text.trim() !== "") && (
        <Button
          type="submit"
          look="primary"
          square
          data-testid="send"
          disabled={why !== null || sending}
          title={why ?? "Send (Enter)"}
          aria-label={running ? "Queue question" : "Send question"}
        >
          <ArrowUp size={16} aria-hidden="true" />
        </Button>
      )}
      <input ref={files} aria-label="Files to attach" data-testid="file-input" {...input} />
      <input
        ref={folder}
        aria-label="Folder to attach"
        data-testid="folder-input"
        {...{ webkitdirectory: "" }}
        {...input}
      />
    </div>
  );
}
