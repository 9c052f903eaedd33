import type { UploadPart } from "@/api/upload";
import { skipped } from "./attach";

const MAX_FILES = 20_000;

export interface Dropped {
  name: string;
  parts: UploadPart[];
}

function fileOf(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

function batch(reader: FileSystemDirectoryReader): Promise<FileSystemEntry[]> {
  return new Promise((resolve, reject) => reader.readEntries(resolve, reject));
}

async function folder(root: FileSystemDirectoryEntry): Promise<UploadPart[]> {
  const parts: UploadPart[] = [];
  const stack: [FileSystemDirectoryEntry, string][] = [[root, ""]];
  while (stack.length && parts.length < MAX_FILES) {
    const next = stack.pop();
    if (!next) break;
    const [directory, prefix] = next;
    const reader = directory.createReader();
    for (let entries = await batch(reader); entries.length; entries = await batch(reader)) {
      for (const entry of entries) {
        const path = prefix + entry.name;
        if (skipped(path)) continue;
        if (entry.isDirectory) stack.push([entry as FileSystemDirectoryEntry, `${path}/`]);
        else parts.push({ file: await fileOf(entry as FileSystemFileEntry), path });
      }
    }
  }
  return parts;
}

/** What was dropped: each file a context, each folder one tree. Entries must be taken before the first await. */
export async function dropped(transfer: DataTransfer): Promise<Dropped[]> {
  const entries = [...transfer.items].map((item) => (item.kind === "file" ? item.webkitGetAsEntry() : null));
  const plain = [...transfer.files];
  if (!entries.some((entry) => entry?.isDirectory)) {
    return plain.map((file) => ({ name: file.name, parts: [{ file, path: file.name }] }));
  }
  const out: Dropped[] = [];
  for (const entry of entries) {
    if (!entry) continue;
    if (entry.isDirectory)
      out.push({ name: entry.name, parts: await folder(entry as FileSystemDirectoryEntry) });
    else
      out.push({
        name: entry.name,
        parts: [{ file: await fileOf(entry as FileSystemFileEntry), path: entry.name }],
      });
  }
  return out.filter((item) => item.parts.length > 0);
}
