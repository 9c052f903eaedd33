import { explain } from "@/api/client";
import type { UploadPart } from "@/api/upload";
import type { ContextRef } from "@/generated/events";
import { uuid7 } from "@/transport/ids";
import { type Attachment, editAttachment, editDraft, getDraft } from "./drafts";

const uploads = new Map<string, AbortController>();

/** Start the upload of one context and show it as a chip at once. `kept` are chips that were offered, not yet owned. */
export async function attach(
  key: string,
  name: string,
  parts: UploadPart[],
  kept: Attachment[],
): Promise<void> {
  const id = uuid7();
  const bytes = parts.reduce((sum, part) => sum + part.file.size, 0);
  const entry: Attachment = {
    id,
    name,
    bytes,
    files: parts.length,
    state: "uploading",
    progress: 0,
    ref: null,
    error: null,
  };
  editDraft(key, { attachments: [...(getDraft(key).attachments ?? kept), entry] });
  const stop = new AbortController();
  uploads.set(id, stop);
  try {
    const { uploadContext } = await import("@/api/upload");
    const ref = await uploadContext(
      name,
      parts,
      (progress) => editAttachment(key, id, { progress }),
      stop.signal,
    );
    editAttachment(key, id, { state: "ready", progress: 1, ref, bytes: ref.bytes, files: ref.files ?? 1 });
  } catch (error) {
    if (!stop.signal.aborted) editAttachment(key, id, { state: "failed", error: explain(error) });
  }
  uploads.delete(id);
}

export function detach(key: string, id: string, shown: Attachment[]): void {
  uploads.get(id)?.abort();
  editDraft(key, { attachments: shown.filter((entry) => entry.id !== id) });
}

export function readyContexts(attachments: readonly Attachment[]): ContextRef[] {
  return attachments.flatMap((entry) => (entry.state === "ready" && entry.ref ? [entry.ref] : []));
}

/** Files chosen one by one are one context each; files of a folder are one tree. */
export function attachFiles(key: string, files: readonly File[], kept: Attachment[]): void {
  const folders = new Map<string, UploadPart[]>();
  for (const file of files) {
    const path = file.webkitRelativePath || file.name;
    const folder = path.includes("/") ? (path.split("/")[0] ?? path) : null;
    if (folder === null) void attach(key, file.name, [{ file, path: file.name }], kept);
    else {
      const inner = path.slice(folder.length + 1);
      if (skipped(inner)) continue;
      folders.set(folder, [...(folders.get(folder) ?? []), { file, path: inner }]);
    }
  }
  for (const [folder, parts] of folders) void attach(key, folder, parts, kept);
}

const SKIP = new Set(["node_modules", "__pycache__", ".git"]);

/** The same things that the server leaves out of a tree: not worth sending. */
export function skipped(path: string): boolean {
  return path.split("/").some((part) => part.startsWith(".") || SKIP.has(part));
}
