import { WifiOff } from "lucide-react";
import { live } from "@/app";
import { Button } from "@/ui/Button";
import { useNow } from "@/ui/useNow";
import { relative } from "@/workspace/format";
import { useWorkspace } from "@/workspace/store";

/** Only when the server has been away for a while; a short break is told by the status bar alone. */
export function ConnectionBanner() {
  const connection = useWorkspace((state) => state.connection);
  const lastSeen = useWorkspace((state) => state.lastSeen);
  const now = useNow(connection === "offline", 5_000);
  if (connection !== "offline") return null;
  return (
    <div
      role="alert"
      className="flex shrink-0 flex-wrap items-center gap-x-3 gap-y-1 bg-err-soft px-3 py-1.5 text-sm text-err"
    >
      <WifiOff size={15} aria-hidden="true" />
      <span className="min-w-0 flex-1">
        The server does not answer. Start it again with <code className="font-mono text-xs">fleet web</code>.
        What you see stays readable and unsent questions are kept.
        {lastSeen !== null && ` Last seen ${relative(lastSeen, now)}.`}
      </span>
      <Button className="h-7 px-2" onClick={() => live.nudge()}>
        Retry now
      </Button>
    </div>
  );
}
