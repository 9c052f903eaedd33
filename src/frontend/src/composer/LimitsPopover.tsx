import { useStatus } from "@/api/queries";
import { LimitFields } from "@/budget/LimitFields";
import { Button } from "@/ui/Button";
import type { Opening } from "@/ui/layer";
import { RadixPopover } from "@/ui/RadixPopover";
import { editDraft } from "./drafts";
import { MODES, type OptionsProps } from "./Options";
import { chosenLimits } from "./send";

/** Limits for the next turn; an empty field leaves the default of the server. */
export function LimitsPopover({ draft, keyOf, ...layer }: OptionsProps & Opening) {
  const { data: status } = useStatus();
  const count = Object.keys(chosenLimits(draft.limits) ?? {}).length;
  return (
    <RadixPopover {...layer} label="Options of the next turn" side="top" width={280}>
      {(close) => (
        <>
          <h2 className="text-sm font-semibold">Limits of the next turn</h2>
          <p className="text-xs text-muted">{MODES[draft.mode][1]}</p>
          <div className="mt-2 grid grid-cols-2 gap-2">
            <LimitFields
              limits={draft.limits}
              defaults={status?.limits}
              onChange={(limits) => editDraft(keyOf, { limits })}
            />
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
