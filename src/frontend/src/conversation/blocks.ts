import { fromMarkdown } from "mdast-util-from-markdown";
import { syntax } from "./gfm";

export interface Blocks {
  text: string;
  /** Top-level blocks in order; joined they are the text again. */
  parts: string[];
}

export const NO_BLOCKS: Blocks = { text: "", parts: [] };

function cut(text: string): string[] {
  const tree = fromMarkdown(text, { extensions: syntax });
  const starts = tree.children.flatMap((node) => node.position?.start.offset ?? []);
  return starts.map((start, i) => text.slice(i === 0 ? 0 : start, starts[i + 1] ?? text.length));
}

const DEEP = /^(?:[ \t]*(?:[-+*][ \t]|\d{1,9}[.)][ \t]|>)){100}|^[ \t]{200,}(?:[-+*]|\d{1,9}[.)])[ \t]/m;

/** Lists and quotes a hundred levels deep: their parser takes seconds, then has no stack left. */
export function tooDeep(text: string): boolean {
  return DEEP.test(text);
}

/**
 * Split growing markdown into its top-level blocks. Only the last two blocks are parsed again: everything before
 * them can no longer change, because a block ends when the next has begun.
 */
export function split(text: string, before: Blocks): Blocks {
  if (text === before.text) return before;
  const kept = text.startsWith(before.text) ? before.parts.slice(0, -2) : [];
  const done = kept.reduce((sum, part) => sum + part.length, 0);
  return { text, parts: [...kept, ...cut(text.slice(done))] };
}

/** Close what the stream has opened and not yet closed, so that half a code fence does not swallow the answer. */
export function closeOpen(block: string): string {
  const fences = block.match(/^ {0,3}(```+|~~~+)/gm) ?? [];
  if (fences.length % 2 === 1) return `${block}\n${(fences.at(-1) ?? "```").trim()}`;
  const line = block.slice(block.lastIndexOf("\n") + 1);
  let tail = "";
  if ((line.match(/`/g) ?? []).length % 2 === 1) tail += "`";
  if ((line.match(/\*\*/g) ?? []).length % 2 === 1) tail += "**";
  return block + tail;
}
