import { request } from "@/api/client";
import type { MemoryEdit, Workbench } from "@/workspace/state";

export interface Block {
  block: string;
  text: string | null;
  /** Characters that fit; null until the server has told. */
  limit: number | null;
  /** What the block is for, in the server's words. */
  about: string | null;
}

export interface MemoryAnswer {
  blocks: { name: string; limit: number; about: string }[];
  /** Characters of all blocks together. */
  limit: number;
}

export const getMemory = (sid: string) =>
  request<MemoryAnswer>(`/sessions/${encodeURIComponent(sid)}/memory`, {}, ["blocks"]);

/** The blocks that the server knows with the newest text of the journal, and those that only the journal has. */
export function blocksOf(bench: Workbench, told: MemoryAnswer | undefined): Block[] {
  const out: Block[] = (told?.blocks ?? []).map(({ name, limit, about }) => ({
    block: name,
    text: bench.memory[name] ?? null,
    limit,
    about,
  }));
  for (const [block, text] of Object.entries(bench.memory))
    if (!out.some((known) => known.block === block)) out.push({ block, text, limit: null, about: null });
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
