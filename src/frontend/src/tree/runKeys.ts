import { create } from "zustand";
import { toast, useUi } from "@/shell/ui";
import { useWorkspace } from "@/workspace/store";
import { lastCell } from "@/workspace/tree";

/** The run whose cancellation waits for a yes. */
export const useCancel = create<{ run: string | null }>(() => ({ run: null }));

export function askCancel(run: string): void {
  const known = useWorkspace.getState().bench?.runs[run];
  if (known?.status === "running") useCancel.setState({ run });
  else toast("This run has ended");
}

function openMenu(run: string): void {
  document.getElementById(`run-${run}`)?.querySelector<HTMLElement>("[data-row-menu]")?.click();
}

function fork(id: string): void {
  const run = useWorkspace.getState().bench?.runs[id];
  const cell = run && lastCell(run);
  if (run) useUi.setState({ forking: cell ? { turn: run.turn, cell } : { turn: run.turn } });
}

async function copy(id: string): Promise<void> {
  const run = useWorkspace.getState().bench?.runs[id];
  if (!run) return;
  await navigator.clipboard.writeText(`${location.origin}${location.pathname}?turn=${run.turn}&run=${id}`);
  toast("Link copied");
}

/** The single letters that do something with the run under the cursor; false when the key is none of them. */
export function runKey(key: string, id: string): boolean {
  if (id.startsWith("group:")) return false;
  if (key === "c") askCancel(id);
  else if (key === "f") fork(id);
  else if (key === "y") void copy(id);
  else if (key === ".") openMenu(id);
  else return false;
  return true;
}
