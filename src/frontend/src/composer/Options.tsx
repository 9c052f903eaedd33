import { ChevronDown, SlidersHorizontal } from "lucide-react";
import { useStatus } from "@/api/queries";
import type { Limits, Mode } from "@/generated/events";
import { Button } from "@/ui/Button";
import { Field } from "@/ui/Field";
import { Popover } from "@/ui/Popover";
import { type Draft, editDraft } from "./drafts";
import { chosenLimits } from "./send";

const MODES: Record<Mode, [string, string]> = {
  auto: ["Auto", "An agent answers and delegates what is too large."],
  rlm: ["Recursive", "Code reads the context in a sandbox and asks sub-runs."],
  direct: ["Direct", "One model call with the context in the prompt."],
};

const FIELDS: [keyof Limits & string, string, string, number][] = [
  ["cost_usd", "Cost", "US dollars", 0.01],
  ["calls", "Model calls", "calls", 1],
  ["tokens", "Tokens", "tokens", 1],
  ["wall_s", "Time", "seconds", 1],
  ["depth", "Depth", "levels", 1],
];

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

/** What a field of limits means: empty or senseless is none, only cost and time have fractions. */
export function limitValue(name: keyof Limits, raw: string): number | undefined {
  const value = Number(raw);
  if (raw.trim() === "" || !Number.isFinite(value) || value < 0) return undefined;
  if (name === "depth") return Math.min(8, Math.round(value));
  if (value === 0) return undefined;
  return name === "cost_usd" || name === "wall_s" ? value : Math.max(1, Math.round(value));
}

/** Limits for the next turn; an empty field leaves the default of the server. */
export function Options({ draft, keyOf }: { draft: Draft; keyOf: string }) {
  const { data: status } = useStatus();
  const count = Object.keys(chosenLimits(draft.limits) ?? {}).length;
  const change = (name: keyof Limits, raw: string) => {
    editDraft(keyOf, { limits: { ...draft.limits, [name]: limitValue(name, raw) } });
  };
  return (
    <Popover
      label="Options of the next turn"
      side="top"
      width={280}
      trigger={
        <Button
          look="quiet"
          className="h-7 px-1.5 text-xs"
          icon={<SlidersHorizontal size={14} aria-hidden="true" />}
        >
          <span className="max-sm:sr-only">{count ? `Limits (${count})` : "Limits"}</span>
        </Button>
      }
    >
      {(close) => (
        <>
          <h2 className="text-sm font-semibold">Limits of the next turn</h2>
          <p className="text-xs text-muted">{MODES[draft.mode][1]}</p>
          <div className="mt-2 grid grid-cols-2 gap-2">
            {FIELDS.map(([name, label, unit, step]) => {
              const fallback = status?.limits[name];
              return (
                <Field
                  key={name}
                  label={label}
                  note={unit}
                  type="number"
                  min={0}
                  step={step}
                  inputMode="decimal"
                  placeholder={fallback == null ? "no limit" : String(fallback)}
                  defaultValue={draft.limits[name] ?? ""}
                  onChange={(event) => change(name, event.target.value)}
                />
              );
            })}
          </div>
          {count > 0 && (
            <Button
              look="quiet"
              className="mt-2 h-7 px-2"
              onClick={() => {
                editDraft(keyOf, { limits: {} });
                close();
              }}
            >
              Clear limits
            </Button>
          )}
        </>
      )}
    </Popover>
  );
}
