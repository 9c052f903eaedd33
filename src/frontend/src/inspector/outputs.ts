import type { OutputPart } from "@/workspace/state";

export interface Shown {
  stream: "stdout" | "stderr";
  text: string;
  /** Behind the boundary: printed, but the model never saw it. */
  unseen: boolean;
}

/** A progress bar rewrites its line with carriage returns; only what it says last is worth a line. */
export function settle(text: string): string {
  return text.includes("\r") ? text.replace(/[^\n]*\r(?!\n|$)/g, "").replace(/\r(?=\n|$)/g, "") : text;
}

/** Cut the parts at what the model saw. */
export function cutAt(parts: readonly OutputPart[], seen: number | null): Shown[] {
  const out: Shown[] = [];
  let left = seen ?? Number.POSITIVE_INFINITY;
  for (const { stream, text } of parts) {
    const head = text.slice(0, Math.max(0, left));
    const tail = text.slice(head.length);
    if (head) out.push({ stream, text: head, unseen: false });
    if (tail) out.push({ stream, text: tail, unseen: true });
    left -= text.length;
  }
  return out;
}

export interface Clamped {
  parts: Shown[];
  hiddenLines: number;
}

/** The first 20 lines or 4 kB. */
export function clamp(parts: readonly Shown[], lines = 20, chars = 4_096): Clamped {
  const out: Shown[] = [];
  let leftLines = lines;
  let leftChars = chars;
  let hiddenLines = 0;
  for (const part of parts) {
    const rows = part.text.split("\n");
    const total = rows.length - (part.text.endsWith("\n") ? 1 : 0);
    if (leftLines <= 0 || leftChars <= 0) {
      hiddenLines += total;
      continue;
    }
    let text = rows.length > leftLines ? `${rows.slice(0, leftLines).join("\n")}\n` : part.text;
    if (text.length > leftChars) text = text.slice(0, leftChars);
    const kept = text.split("\n").length - (text.endsWith("\n") ? 1 : 0);
    hiddenLines += text.length < part.text.length ? Math.max(1, total - kept) : 0;
    leftLines -= kept;
    leftChars -= text.length;
    out.push({ ...part, text });
  }
  return { parts: out, hiddenLines };
}
