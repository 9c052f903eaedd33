import { useNavigate } from "@tanstack/react-router";
import { live } from "@/app";
import { allLimits } from "@/budget/limits";
import type { Limits } from "@/generated/events";
import { toast, useUi } from "@/shell/ui";
import type { Command, ForkEdit } from "@/transport/frames";
import type { TurnView } from "@/workspace/state";

/** What can be done with a turn. Each goes to the turn, or the session, that the server made for it. */
export function useTurnActions() {
  const navigate = useNavigate();
  const run = async (command: Command): Promise<boolean> => {
    const sid = live.session;
    if (!sid) return false;
    const ack = await live.command(sid, command);
    // The newest turn is what a session shows by itself.
    if (ack.ok) await navigate({ to: "/s/$sid", params: { sid: ack.session ?? sid }, search: {} });
    return ack.ok;
  };
  return {
    resume: (turn: TurnView, limits?: Limits) =>
      run({ op: "turn.resume", args: { turn: turn.id, ...(limits ? { limits } : {}) } }),
    replay: (turn: TurnView) => run({ op: "turn.replay", args: { turn: turn.id } }),
    fork: (turn: TurnView, edit: ForkEdit) => run({ op: "fork", args: { turn: turn.id, edit } }),
    retry: (turn: TurnView) =>
      run({
        op: "turn.start",
        args: {
          question: turn.question,
          mode: turn.mode,
          model: turn.model,
          sub_model: turn.sub_model,
          limits: allLimits(turn.limits),
          contexts: turn.contexts.map((context) => context.sha256),
        },
      }),
    openFork: (turn: string, cell?: string) => useUi.setState({ forking: cell ? { turn, cell } : { turn } }),
    openCompare: (turn: string) => useUi.setState({ comparing: turn }),
    copyLink: async (search: Record<string, string>) => {
      const query = new URLSearchParams(search);
      await navigator.clipboard.writeText(`${location.origin}${location.pathname}?${query}`);
      toast("Link copied");
    },
  };
}
