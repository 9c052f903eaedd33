import { useEffect, useState } from "react";
import { toast } from "@/shell/ui";
import { attach } from "./attach";
import type { Attachment } from "./drafts";
import { dropped } from "./dropped";

/** Files may be dropped anywhere on the page. True while something hangs over it. */
export function useDrop(key: string, kept: Attachment[]): boolean {
  const [over, setOver] = useState(false);
  useEffect(() => {
    let depth = 0;
    const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const enter = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      depth += 1;
      setOver(true);
    };
    const leave = () => {
      depth = Math.max(0, depth - 1);
      if (depth === 0) setOver(false);
    };
    const hover = (event: DragEvent) => {
      if (hasFiles(event)) event.preventDefault();
    };
    const drop = async (event: DragEvent) => {
      if (!event.dataTransfer || !hasFiles(event)) return;
      event.preventDefault();
      depth = 0;
      setOver(false);
      try {
        const items = await dropped(event.dataTransfer);
        if (!items.length) toast("Nothing readable was dropped.");
        for (const item of items) void attach(key, item.name, item.parts, kept);
      } catch {
        toast("The dropped folder could not be read.");
      }
    };
    addEventListener("dragenter", enter);
    addEventListener("dragleave", leave);
    addEventListener("dragover", hover);
    addEventListener("drop", drop);
    return () => {
      removeEventListener("dragenter", enter);
      removeEventListener("dragleave", leave);
      removeEventListener("dragover", hover);
      removeEventListener("drop", drop);
    };
  }, [key, kept]);
  return over;
}
