import { Ellipsis } from "lucide-react";
import { lazyLayer, type Triggered } from "@/ui/layer";

export interface RunMenuProps extends Triggered {
  run: string;
}

const Layer = lazyLayer<RunMenuProps>("menu", () => import("./RunMenu").then((module) => module.RunMenu));

/** What can be done with a run. */
export function RunMenuButton({ run }: { run: string }) {
  return (
    <Layer
      run={run}
      trigger={
        <button
          type="button"
          tabIndex={-1}
          data-row-menu
          aria-label="Actions for this run"
          className="inline-flex size-6 items-center justify-center rounded-md bg-raised text-muted shadow-[0_0_0_1px_var(--line)] hover:text-text"
        >
          <Ellipsis size={14} aria-hidden="true" />
        </button>
      }
    />
  );
}
