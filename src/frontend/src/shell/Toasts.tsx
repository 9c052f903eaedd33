import { X } from "lucide-react";
import { useEffect } from "react";
import { Button, IconButton } from "@/ui/Button";
import { useWorkspace } from "@/workspace/store";
import { dismissToast, toast, useUi } from "./ui";

export function Toasts() {
  const toasts = useUi((state) => state.toasts);
  const notice = useWorkspace((state) => state.notice);
  useEffect(() => {
    if (!notice) return;
    toast(notice);
    useWorkspace.setState({ notice: null });
  }, [notice]);
  return (
    <div
      role="status"
      aria-label="Messages"
      className="pointer-events-none fixed right-3 bottom-10 z-50 flex flex-col items-end gap-2 max-sm:bottom-24"
    >
      {toasts.map((entry) => (
        <div
          key={entry.id}
          className="pointer-events-auto flex max-w-sm animate-in items-center gap-2 rounded-lg border border-line bg-raised py-1.5 pr-1.5 pl-3 shadow-float"
        >
          <span className="text-sm">{entry.text}</span>
          {entry.action && (
            <Button
              look="quiet"
              className="h-7 px-2 text-accent"
              onClick={() => {
                entry.action?.run();
                dismissToast(entry.id);
              }}
            >
              {entry.action.label}
            </Button>
          )}
          <IconButton label="Dismiss" className="size-6" onClick={() => dismissToast(entry.id)}>
            <X size={13} aria-hidden="true" />
          </IconButton>
        </div>
      ))}
    </div>
  );
}
