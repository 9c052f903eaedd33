import { request } from "@/api/client";
import type { MemoryEdit, Workbench } from "@/workspace/state";

export interface Block {
  block: string;
  text: string | null;
  /** Characters that fit; null when the server does not tell. */
  limit: number | null;
  /** What the block is for, in the server's words. */
  about?: string | null;
}

interface MemoryAnswer {
  blocks: { block: string; text?: string | null; limit?: number | null; about?: string | null }[];
}

export const getMemory = (sid: string) =>
  request<MemoryAnswer>(`/sessions/${encodeURIComponent(sid)}/memory`, {}, ["blocks"]);

/** The blocks that the server knows with the newest text of the journal, and those that only the journal has. */
export function blocksOf(bench: Workbench, told: MemoryAnswer | undefined): Block[] {
  const out: Block[] = (told?.blocks ?? []).map(({ block, limit, about }) => ({
    block,
    text: bench.memory[block] ?? null,
    limit: limit ?? null,
    about: about ?? null,
  }));
  for (const [block, text] of Object.entries(bench.memory))
    if (!out.some((known) => known.block === block)) out.push({ block, text, limit: null });
  return out;
}

/** Newest first. */
export function history(bench: Workbench, block?: string): MemoryEdit[] {
  return bench.memory_edits.filter((edit) => block === undefined || edit.block === block).reverse();
}

/** Only the newest change of a block can be taken back, or it would undo later ones with it. */
export function undoable(bench: Workbench, edit: MemoryEdit): boolean {
  const newest = bench.memory_edits.findLast((other) => other.block === edit.block);
  return newest?.seq === edit.seq;
}
