import { FlaskConical } from "lucide-react";
import { Chip } from "@/ui/Chip";

export const DEMO_MODEL = "demo/search";

/** Wherever the demo program answers, this stands beside it: nobody shall take it for a model. */
export function DemoChip() {
  return (
    <Chip
      tone="warn"
      className="max-sm:hidden"
      title="demo/search ranks passages by the words of the question. No AI model is running."
    >
      <FlaskConical size={13} className="shrink-0" aria-hidden="true" />
      <span className="truncate">Demo: search program, no AI model</span>
    </Chip>
  );
}
