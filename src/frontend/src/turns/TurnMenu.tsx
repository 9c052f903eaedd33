import { Gauge, GitCompareArrows, GitFork, Link2, Play, Repeat2, RotateCcw } from "lucide-react";
import type { Opening, Triggered } from "@/ui/layer";
import type { MenuItem } from "@/ui/Menu";
import { RadixMenu } from "@/ui/RadixMenu";
import type { TurnView } from "@/workspace/state";
import { useWorkspace } from "@/workspace/store";
import { resumes } from "./resumes";
import { showRaise } from "./showRaise";
import { useTurnActions } from "./useTurnActions";

export interface TurnMenuProps extends Triggered {
  turn: TurnView;
  align?: "start" | "end";
}

/** Everything that can be done with a turn. */
export function TurnMenu({ turn, ...layer }: TurnMenuProps & Opening) {
  const actions = useTurnActions();
  const how = useWorkspace(({ bench }) => (bench ? resumes(bench, turn) : null));
  const items: (MenuItem | false)[] = [
    how === "raised" && {
      label: "Raise the limit and continue…",
      icon: <Gauge size={14} />,
      movesFocus: true,
      onSelect: () => showRaise(turn.id),
    },
    how === "now" && {
      label: "Resume",
      icon: <Play size={14} />,
      onSelect: () => void actions.resume(turn),
    },
    turn.status !== "running" && {
      label: "Ask again",
      icon: <RotateCcw size={14} />,
      onSelect: () => void actions.retry(turn),
    },
    turn.status !== "running" && {
      label: "Replay from the journal",
      icon: <Repeat2 size={14} />,
      onSelect: () => void actions.replay(turn),
    },
    {
      label: "Fork from here…",
      icon: <GitFork size={14} />,
      // The menu gives the focus back first; then the dialog takes it.
      onSelect: () => setTimeout(() => actions.openFork(turn.id)),
    },
    {
      label: "Compare with…",
      icon: <GitCompareArrows size={14} />,
      onSelect: () => setTimeout(() => actions.openCompare(turn.id)),
    },
    {
      label: "Copy link to this turn",
      icon: <Link2 size={14} />,
      onSelect: () => void actions.copyLink({ turn: turn.id }),
    },
  ];
  return <RadixMenu {...layer} items={items.filter((item) => item !== false)} />;
}
