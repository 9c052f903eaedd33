import { ChevronDown, SlidersHorizontal } from "lucide-react";
import { useStatus } from "@/api/queries";
import type { Mode } from "@/generated/events";
import { Button } from "@/ui/Button";
import { lazyLayer, type Triggered } from "@/ui/layer";
import { type Draft, editDraft } from "./drafts";
import { chosenLimits } from "./send";

export const MODES: Record<Mode, [string, string]> = {
  auto: ["Auto", "An agent answers and delegates what is too large."],
  rlm: ["Recursive", "Code reads the context in a sandbox and asks sub-runs."],
  direct: ["Direct", "One model call with the context in the prompt."],
};

export function ModePicker({ mode, keyOf }: { mode: Mode; keyOf: string }) {
  const { data: status } = useStatus();
  const modes = status?.modes ?? (["auto", "rlm", "direct"] as Mode[]);
  return (
    <label className="relative flex min-w-0 items-center text-muted hover:text-text">
      <span className="sr-only">Mode</span>
      <select
        className="h-7 appearance-none rounded-md bg-transparent pr-6 pl-2 text-xs hover:bg-sunken pointer-coarse:h-10"
        value={mode}
        title={MODES[mode][1]}
        onChange={(event) => editDraft(keyOf, { mode: event.target.value as Mode })}
        data-testid="mode"
      >
        {modes.map((name) => (
          <option key={name} value={name} className="bg-raised text-text">
            {MODES[name][0]}
          </option>
        ))}
      </select>
      <ChevronDown size={13} aria-hidden="true" className="pointer-events-none absolute right-1.5" />
    </label>
  );
}

export const Options = lazyLayer<OptionsProps>("dialog", () =>
  import("./LimitsPopover").then((module) => module.LimitsPopover),
);

export interface OptionsProps extends Triggered {
  draft: Draft;
  keyOf: string;
}

/** The button that opens the limits of the next turn. */
export function OptionsButton({ draft, keyOf }: { draft: Draft; keyOf: string }) {
  const count = Object.keys(chosenLimits(draft.limits) ?? {}).length;
  return (
    <Options
      draft={draft}
      keyOf={keyOf}
      trigger={
        <Button
          look="quiet"
          className="h-7 px-1.5 text-xs"
          icon={<SlidersHorizontal size={14} aria-hidden="true" />}
        >
          <span className="max-sm:sr-only">{count ? `Limits (${count})` : "Limits"}</span>
        </Button>
      }
    />
  );
}
