import { clsx } from "clsx";
import {
  Ban,
  CircleAlert,
  CircleCheck,
  CircleDashed,
  CircleX,
  Gauge,
  Hand,
  LoaderCircle,
  Send,
  Unplug,
} from "lucide-react";
import type { CellView, Status } from "@/workspace/state";

export type AnyStatus = Status | CellView["status"] | "queued" | "waiting";

const LOOK: Record<AnyStatus, [typeof Ban, string, string]> = {
  queued: [CircleDashed, "text-muted", "waiting"],
  waiting: [Hand, "text-warn", "waits for you"],
  running: [LoaderCircle, "text-run animate-spin", "running"],
  ok: [CircleCheck, "text-ok", "done"],
  submitted: [Send, "text-ok", "answer submitted"],
  failed: [CircleX, "text-err", "failed"],
  error: [CircleX, "text-err", "error"],
  cancelled: [Ban, "text-muted", "cancelled"],
  limit: [Gauge, "text-warn", "limit reached"],
  interrupted: [CircleAlert, "text-warn", "interrupted"],
  lost: [Unplug, "text-err", "sandbox lost"],
};

export function statusWord(status: AnyStatus): string {
  return LOOK[status][2];
}

/** Status is never colour alone: the shape differs and the word is there for everybody who cannot see it. */
export function StatusIcon({
  status,
  size = 14,
  className,
}: {
  status: AnyStatus;
  size?: number;
  className?: string;
}) {
  const [Icon, look, word] = LOOK[status];
  return (
    <span className={clsx("inline-flex shrink-0", className)} title={word}>
      <Icon size={size} strokeWidth={1.9} className={look} aria-hidden="true" />
      <span className="sr-only">{word}</span>
    </span>
  );
}
