import { clsx } from "clsx";
import { type InputHTMLAttributes, type ReactNode, useId } from "react";

export const inputLook =
  "h-8 w-full rounded-md border border-line-strong bg-panel px-2.5 text-sm text-text outline-offset-0 disabled:bg-sunken disabled:text-muted pointer-coarse:h-10";

interface FieldProps extends InputHTMLAttributes<HTMLInputElement> {
  label: string;
  note?: ReactNode;
}

/** A labelled input; the note beside the label describes it and is not part of its name. */
export function Field({ label, note, className, ...rest }: FieldProps) {
  const id = useId();
  return (
    <div className={clsx("block", className)}>
      <span className="mb-1 flex items-baseline justify-between gap-3">
        <label htmlFor={id} className="text-sm font-medium">
          {label}
        </label>
        {note && (
          <span id={`${id}-note`} className="text-xs text-muted">
            {note}
          </span>
        )}
      </span>
      <input
        id={id}
        aria-describedby={note ? `${id}-note` : undefined}
        className={inputLook}
        spellCheck={false}
        autoComplete="off"
        {...rest}
      />
    </div>
  );
}
