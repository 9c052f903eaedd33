import { clsx } from "clsx";
import { FlaskConical, ShieldCheck } from "lucide-react";
import { lazy, Suspense } from "react";
import { useStatus } from "@/api/queries";
import { live } from "@/app";
import { openApprovals } from "@/approvals/approvals";
import { useNow } from "@/ui/useNow";
import { clock, compact, number, plural } from "@/workspace/format";
import { activeRuns, activeTurn, pickTurn } from "@/workspace/select";
import { useWorkspace } from "@/workspace/store";
import { liveUsage } from "@/workspace/tree";
import { useSelection, useSession } from "./selection";

const WaitingBadge = lazy(() => import("@/approvals/WaitingBadge"));

const WORDS = {
  connecting: ["bg-warn", "Connecting"],
  open: ["bg-ok", "Connected"],
  reconnecting: ["bg-warn animate-pulse-dot", "Reconnecting"],
  offline: ["bg-err", "Offline"],
  signed_out: ["bg-err", "Signed out"],
} as const;

function Connection() {
  const connection = useWorkspace((state) => state.connection);
  const retryAt = useWorkspace((state) => state.retryAt);
  const replay = useWorkspace((state) => state.replay);
  const waiting = connection === "reconnecting" || connection === "offline";
  const now = useNow(waiting, 500);
  const [dot, word] = WORDS[connection];
  const events = replay ? replay.head - replay.from + 1 : 0;
  return (
    <span
      className="flex items-center gap-1.5"
      role="status"
      aria-label="Connection"
      data-testid="connection"
      data-state={connection}
    >
      <span className={clsx("size-2 rounded-full", dot)} aria-hidden="true" />
      {events > 500 && connection === "open" ? `Replaying ${number(events)} events` : word}
      {waiting &&
        retryAt !== null &&
        retryAt > now &&
        `, next try in ${Math.ceil((retryAt - now) / 1_000)} s`}
      {waiting && (
        <button type="button" className="underline underline-offset-2" onClick={() => live.nudge()}>
          Retry now
        </button>
      )}
    </span>
  );
}

/** `few`: on a phone there is room for what is more urgent only. */
function TurnNumbers({ few }: { few: boolean }) {
  const bench = useWorkspace((state) => state.bench);
  const [{ turn: chosen }] = useSelection();
  const turn = pickTurn(bench, chosen);
  const running = activeTurn(bench)?.id === turn?.id && turn !== null;
  const now = useNow(running);
  if (!bench || !turn) return null;
  const usage = liveUsage(bench, turn.runs[0] ?? "");
  const elapsed = (turn.finished_ts ?? Math.max(now, turn.ts)) - turn.ts;
  const active = activeRuns(bench, turn);
  return (
    <>
      <span
        data-testid="run-count"
        data-total={turn.runs.length}
        data-active={active}
        className={few ? "max-sm:hidden" : undefined}
      >
        {active > 0
          ? `${number(active)} active of ${plural(turn.runs.length, "run")}`
          : plural(turn.runs.length, "run")}
      </span>
      <span className="max-sm:hidden">{compact(usage.tokens)} tokens</span>
      <span className="max-sm:hidden">{clock(elapsed)}</span>
    </>
  );
}

export function StatusBar() {
  const { data: status } = useStatus();
  const sid = useSession();
  const waiting = useWorkspace((state) => openApprovals(state.bench).length > 0);
  return (
    <footer
      data-chrome
      className="flex h-6.5 shrink-0 items-center gap-4 overflow-hidden border-t bg-panel px-3 text-2xs whitespace-nowrap text-muted tabular"
    >
      <Connection />
      {sid && <TurnNumbers few={waiting} />}
      <Suspense>{sid && waiting && <WaitingBadge />}</Suspense>
      <span className="flex-1" />
      {status?.demo && (
        <span className="flex items-center gap-1 text-warn" data-testid="demo-label">
          <FlaskConical size={12} aria-hidden="true" />
          <span>
            Demo<span className="max-sm:hidden">: search program</span>, no AI model
          </span>
        </span>
      )}
      {status && (
        <span className="flex items-center gap-1 max-md:hidden" title={status.isolation_detail ?? undefined}>
          <ShieldCheck size={12} aria-hidden="true" />
          {status.provider} sandbox{status.isolation && ` · ${status.isolation}`}
        </span>
      )}
      {status && <span className="max-sm:hidden">{status.version}</span>}
    </footer>
  );
}
