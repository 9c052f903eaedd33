import { told } from "@/api/client";
import { deleteSession, renameSession } from "@/api/resources";
import { queries } from "@/app";
import { toast, useUi } from "./ui";

const UNDO_MS = 6_000;

export async function saveTitle(sid: string, title: string): Promise<void> {
  try {
    await renameSession(sid, title);
  } catch (error) {
    toast(`Not renamed: ${told(error)}`);
  }
  await queries.invalidateQueries({ queryKey: ["sessions"] });
}

/** Gone from the list at once, from the server after the time in which it can be undone. */
export function removeSession(sid: string, title: string): void {
  const back = () => useUi.setState(({ leaving }) => ({ leaving: leaving.filter((id) => id !== sid) }));
  useUi.setState(({ leaving }) => ({ leaving: [...leaving, sid] }));
  const timer = setTimeout(async () => {
    try {
      await deleteSession(sid);
    } catch (error) {
      toast(`Not deleted: ${told(error)}`);
    }
    await queries.invalidateQueries({ queryKey: ["sessions"] });
    back();
  }, UNDO_MS);
  const undo = () => {
    clearTimeout(timer);
    back();
  };
  toast(`Deleted “${title || "Untitled"}”`, { label: "Undo", run: undo }, UNDO_MS);
}
