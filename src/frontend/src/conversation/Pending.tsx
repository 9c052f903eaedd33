import { live } from "@/app";
import type { OutboxItem } from "@/transport/outbox";
import { Button } from "@/ui/Button";
import { StatusIcon } from "@/ui/StatusIcon";
import { activeTurn } from "@/workspace/select";
import { useWorkspace } from "@/workspace/store";
import { UserMessage } from "./UserMessage";

function stateOf(item: OutboxItem, connected: boolean, busy: boolean): string {
  if (item.state === "failed") return item.error?.message ?? "The server refused this question.";
  if (item.state === "sent") return "Sent";
  if (!connected) return "Will be sent when the server answers again";
  return busy ? "Queued: will be sent when this turn ends" : "Sending";
}

/** Questions on their way: waiting, sent, or refused with a way to try again. */
export function Pending({ item }: { item: OutboxItem & { op: "turn.start" } }) {
  const connected = useWorkspace((state) => state.caughtUp);
  const busy = useWorkspace((state) => activeTurn(state.bench) !== null);
  const failed = item.state === "failed";
  return (
    <div data-testid="pending" data-state={item.state} className="mx-auto w-full max-w-[760px] px-4 pt-5">
      <UserMessage text={item.args.question} />
      <div
        className="flex min-h-8 flex-wrap items-center gap-2 px-1 pt-1.5 text-xs text-muted"
        role={failed ? "alert" : undefined}
      >
        <StatusIcon status={failed ? "failed" : item.state === "sent" ? "running" : "queued"} />
        <span className={failed ? "text-err" : undefined}>
          {stateOf(item, connected, busy)}
          {failed && item.error?.hint && `; ${item.error.hint}`}
        </span>
        {failed && (
          <Button className="h-7 px-2" onClick={() => live.retry(item.id)}>
            Try again
          </Button>
        )}
        {item.state !== "sent" && (
          <Button look="quiet" className="h-7 px-2" onClick={() => live.dismiss(item.id)}>
            Remove
          </Button>
        )}
      </div>
    </div>
  );
}
