import { type FormEvent, useState } from "react";
import type { Limits, Unit } from "@/generated/events";
import { Button } from "@/ui/Button";
import { LimitFields } from "./LimitFields";
import { changedLimits, isRaised, LIMIT_FIELDS, raised, UNIT_FIELD } from "./limits";
import { unsound } from "./unsound";

const ALL: typeof LIMIT_FIELDS = [...LIMIT_FIELDS, ["children", "Sub-runs", "runs", 1]];

export interface LimitsFormProps {
  /** Names the form: there may be several on a screen. */
  label: string;
  limits: Limits;
  /** The limit that was reached: proposed twice as high, and the field to begin with. */
  reached?: Unit | null;
  /** Without a higher one there is no going on. */
  must?: boolean;
  submit: string;
  /** Send also when nothing was changed. */
  always?: boolean;
  onSubmit: (changed: Limits) => void;
  children?: React.ReactNode;
}

/** All limits of a turn as they are, to be raised, lowered or taken away (an empty field: no limit). */
export function LimitsForm(props: LimitsFormProps) {
  const { limits, reached = null } = props;
  const [wanted, setWanted] = useState<Limits>(() => raised(limits, reached));
  const changed = changedLimits(limits, wanted);
  const low = props.must && reached !== null && !isRaised(limits, wanted, reached);
  const nothing = low || unsound(wanted) || (Object.keys(changed).length === 0 && !props.always);
  const first = reached ? UNIT_FIELD[reached] : undefined;
  const send = (event: FormEvent) => {
    event.preventDefault();
    if (!nothing) props.onSubmit(changed);
  };
  return (
    <form noValidate onSubmit={send} data-testid="limits-form" aria-label={props.label}>
      <div className="grid grid-cols-[repeat(auto-fill,minmax(118px,1fr))] gap-2">
        <LimitFields limits={wanted} onChange={setWanted} fields={ALL} marked={first} />
      </div>
      <div className="mt-3 flex flex-wrap gap-2">
        <Button type="submit" look="primary" disabled={nothing}>
          {props.submit}
        </Button>
        {props.children}
      </div>
    </form>
  );
}
