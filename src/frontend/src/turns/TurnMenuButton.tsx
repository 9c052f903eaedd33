import { Ellipsis } from "lucide-react";
import { IconButton } from "@/ui/Button";
import { lazyLayer } from "@/ui/layer";
import type { TurnView } from "@/workspace/state";
import type { TurnMenuProps } from "./TurnMenu";

const Layer = lazyLayer<TurnMenuProps>("menu", () => import("./TurnMenu").then((module) => module.TurnMenu));

export function TurnMenuButton({ turn, align }: { turn: TurnView; align?: "start" | "end" }) {
  return (
    <Layer
      turn={turn}
      {...(align ? { align } : {})}
      trigger={
        <IconButton label="Actions for this turn" data-testid="turn-menu">
          <Ellipsis size={15} aria-hidden="true" />
        </IconButton>
      }
    />
  );
}
