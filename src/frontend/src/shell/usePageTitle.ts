import { useEffect } from "react";
import { openApprovals } from "@/approvals/approvals";
import { plural } from "@/workspace/format";
import { activeRuns, activeTurn } from "@/workspace/select";
import { useWorkspace } from "@/workspace/store";
import { useSession } from "./selection";

const DOTS = { idle: "", running: "#2f7de1", waiting: "#c9850a", failed: "#d23c3c" } as const;

function favicon(dot: string): string {
  const circle = dot ? `<circle cx="25" cy="7" r="6.5" fill="${dot}" stroke="#fff" stroke-width="2"/>` : "";
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#4a55c8"/><g fill="none" stroke="#fff" stroke-width="2.2" stroke-linecap="round"><path d="M16 9.5v4.2M16 13.7 8.6 20M16 13.7 23.4 20M16 13.7V20"/></g><g fill="#fff"><circle cx="16" cy="8" r="3"/><circle cx="8" cy="22.5" r="3"/><circle cx="16" cy="22.5" r="3"/><circle cx="24" cy="22.5" r="3"/></g>${circle}</svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

/** Title and favicon tell from another tab whether something runs. */
export function usePageTitle(): void {
  const sid = useSession();
  const title = useWorkspace((state) => state.bench?.title ?? "");
  const running = useWorkspace((state) => {
    const turn = activeTurn(state.bench);
    return state.bench && turn ? Math.max(1, activeRuns(state.bench, turn)) : 0;
  });
  const failed = useWorkspace((state) => {
    const last = state.bench?.turns[state.bench.turn_order.at(-1) ?? ""];
    return last?.status === "failed";
  });
  const waiting = useWorkspace((state) => openApprovals(state.bench).length);
  useEffect(() => {
    const name = sid ? title || "Session" : "fleet-rlm";
    if (waiting) document.title = `(!) ${name}: ${plural(waiting, "question")} for you`;
    else document.title = running ? `● ${name} (${running} running)` : sid ? `${name} · fleet-rlm` : name;
  }, [sid, title, running, waiting]);
  const state = waiting ? "waiting" : running ? "running" : failed && sid ? "failed" : "idle";
  useEffect(() => {
    document
      .getElementById("favicon")
      ?.setAttribute("href", state === "idle" ? "/favicon.svg" : favicon(DOTS[state]));
  }, [state]);
}
