import { Ban, Code, GitFork, Link2, ScanText } from "lucide-react";
import { useSelection } from "@/shell/selection";
import { useTurnActions } from "@/turns/useTurnActions";
import type { Opening } from "@/ui/layer";
import type { MenuItem } from "@/ui/Menu";
import { RadixMenu } from "@/ui/RadixMenu";
import { useWorkspace } from "@/workspace/store";
import { lastCell } from "@/workspace/tree";
import type { RunMenuProps } from "./RunMenuButton";
import { askCancel } from "./runKeys";

export function RunMenu({ run: id, ...layer }: RunMenuProps & Opening) {
  const run = useWorkspace((state) => state.bench?.runs[id]);
  const [, select] = useSelection();
  const { openFork, copyLink } = useTurnActions();
  if (!run) return null;
  const cell = lastCell(run);
  const here = { turn: run.turn, run: run.id };
  const items: (MenuItem | false)[] = [
    run.status === "running" && {
      label:
        run.parent === null
          ? "Stop the whole turn…"
          : run.children.length
            ? "Cancel with its sub-runs…"
            : "Cancel this run…",
      hint: "c",
      danger: true,
      icon: <Ban size={14} />,
      onSelect: () => setTimeout(() => askCancel(run.id)),
    },
    cell !== undefined && {
      label: "Fork from its last cell…",
      hint: "f",
      icon: <GitFork size={14} />,
      onSelect: () => setTimeout(() => openFork(run.turn, cell)),
    },
    {
      label: "Show its cells",
      icon: <Code size={14} />,
      onSelect: () => select({ ...here, cell: undefined, tab: "cells" }),
    },
    run.contexts.length > 0 && {
      label: "Show what it read",
      icon: <ScanText size={14} />,
      onSelect: () => select({ ...here, view: "context" }),
    },
    {
      label: "Copy link",
      hint: "y",
      icon: <Link2 size={14} />,
      onSelect: () => void copyLink(here),
    },
  ];
  return <RadixMenu {...layer} items={items.filter((item) => item !== false)} />;
}
