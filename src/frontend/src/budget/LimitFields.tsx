import type { Limits } from "@/generated/events";
import { Field } from "@/ui/Field";
import { LIMIT_FIELDS, limitValue } from "./limits";

export interface LimitFieldsProps {
  limits: Limits;
  onChange: (limits: Limits) => void;
  fields?: typeof LIMIT_FIELDS;
  /** What holds where a field is empty; without it: no limit. */
  defaults?: Limits;
  /** The field to look at first. */
  marked?: keyof Limits;
}

/** One field for each limit, in the grid that the caller gives; an empty one is no limit of its own. */
export function LimitFields({ limits, onChange, fields = LIMIT_FIELDS, defaults, marked }: LimitFieldsProps) {
  return fields.map(([name, label, unit, step]) => {
    const wrong = Number.isNaN(limits[name]);
    return (
      <Field
        key={name}
        label={label}
        note={wrong ? <span className="text-err">{name === "depth" ? "0 to 8" : "> 0"}</span> : unit}
        aria-invalid={wrong}
        type="number"
        min={0}
        step={step}
        inputMode="decimal"
        placeholder={String(defaults?.[name] ?? "no limit")}
        data-reached={name === marked || undefined}
        className={wrong ? "[&_input]:border-err" : name === marked ? "[&_input]:border-warn" : undefined}
        defaultValue={wrong ? "" : (limits[name] ?? "")}
        onChange={({ target }) =>
          // Of what is no number at all the browser tells nothing but that it is bad.
          onChange({
            ...limits,
            [name]: target.validity.badInput ? Number.NaN : limitValue(name, target.value),
          })
        }
      />
    );
  });
}
