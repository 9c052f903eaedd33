import { useStatus } from "@/api/queries";
import { LIMIT_FIELDS, limitValue } from "@/budget/limits";
import type { Limits } from "@/generated/events";
import { Button } from "@/ui/Button";
import { Field } from "@/ui/Field";
import type { Opening } from "@/ui/layer";
import { RadixPopover } from "@/ui/RadixPopover";
import { editDraft } from "./drafts";
import { MODES, type OptionsProps } from "./Options";
import { chosenLimits } from "./send";

/** Limits for the next turn; an empty field leaves the default of the server. */
export function LimitsPopover({ draft, keyOf, ...layer }: OptionsProps & Opening) {
  const { data: status } = useStatus();
  const count = Object.keys(chosenLimits(draft.limits) ?? {}).length;
  const change = (name: keyof Limits, raw: string) => {
    editDraft(keyOf, { limits: { ...draft.limits, [name]: limitValue(name, raw) } });
  };
  return (
    <RadixPopover {...layer} label="Options of the next turn" side="top" width={280}>
      {(close) => (
        <>
          <h2 className="text-sm font-semibold">Limits of the next turn</h2>
          <p className="text-xs text-muted">{MODES[draft.mode][1]}</p>
          <div className="mt-2 grid grid-cols-2 gap-2">
            {LIMIT_FIELDS.map(([name, label, unit, step]) => {
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
    </RadixPopover>
  );
}
