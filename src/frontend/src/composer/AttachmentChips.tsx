import { clsx } from "clsx";
import { CircleX, FileText, Folder, LoaderCircle, X } from "lucide-react";
import { bytes, plural, tokensOf } from "@/workspace/format";
import { detach } from "./attach";
import type { Attachment } from "./drafts";

function facts(entry: Attachment): string {
  if (entry.state === "failed") return entry.error?.message ?? "not accepted";
  if (entry.state === "uploading") return `${Math.round(entry.progress * 100)} % of ${bytes(entry.bytes)}`;
  const files = entry.ref?.kind === "tree" ? `${plural(entry.files, "file")} · ` : "";
  return `${files}${bytes(entry.bytes)} · ${tokensOf(entry.ref?.chars ?? entry.bytes)}`;
}

function Icon({ entry }: { entry: Attachment }) {
  if (entry.state === "failed") return <CircleX size={13} className="shrink-0" aria-hidden="true" />;
  if (entry.state === "uploading")
    return <LoaderCircle size={13} className="shrink-0 animate-spin text-run" aria-hidden="true" />;
  const Kind = entry.ref?.kind === "tree" ? Folder : FileText;
  return <Kind size={13} className="shrink-0 text-muted" aria-hidden="true" />;
}

export function AttachmentChips({ attachments, keyOf }: { attachments: Attachment[]; keyOf: string }) {
  if (!attachments.length) return null;
  return (
    <ul className="flex flex-wrap gap-1.5 px-2.5 pt-2.5" aria-label="Attached contexts">
      {attachments.map((entry) => (
        <li
          key={entry.id}
          data-testid="attachment"
          data-state={entry.state}
          title={entry.state === "failed" ? (entry.error?.hint ?? undefined) : entry.name}
          className={clsx(
            "relative flex h-7 max-w-full items-center gap-1.5 overflow-hidden rounded-md border pr-0.5 pl-2 text-xs pointer-coarse:h-10",
            entry.state === "failed" ? "border-transparent bg-err-soft text-err" : "border-line bg-sunken",
          )}
        >
          <Icon entry={entry} />
          <span className="max-w-48 truncate">{entry.name}</span>
          <span
            className={clsx("truncate tabular", entry.state !== "failed" && "text-muted")}
            role={entry.state === "failed" ? "alert" : undefined}
          >
            {facts(entry)}
            {entry.state === "failed" && entry.error?.hint ? `; ${entry.error.hint}` : ""}
          </span>
          <button
            type="button"
            className="inline-flex size-6 shrink-0 items-center justify-center rounded-sm text-muted hover:text-text pointer-coarse:size-9"
            aria-label={`Remove ${entry.name}`}
            onClick={() => detach(keyOf, entry.id, attachments)}
          >
            <X size={13} aria-hidden="true" />
          </button>
          {entry.state === "uploading" && (
            <span
              className="absolute bottom-0 left-0 h-0.5 bg-run"
              style={{ width: `${entry.progress * 100}%` }}
              aria-hidden="true"
            />
          )}
        </li>
      ))}
    </ul>
  );
}
