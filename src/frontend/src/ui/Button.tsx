import { clsx } from "clsx";
import type { ButtonHTMLAttributes, ReactNode, Ref } from "react";

type Look = "primary" | "plain" | "quiet" | "danger";

const LOOKS: Record<Look, string> = {
  primary:
    "bg-accent text-on-accent hover:brightness-110 disabled:bg-sunken disabled:text-muted disabled:border-line border border-transparent",
  plain: "border border-line bg-panel hover:bg-sunken text-text disabled:text-muted",
  quiet: "border border-transparent hover:bg-sunken text-muted hover:text-text",
  danger: "border border-line bg-panel text-err hover:bg-err-soft",
};

export interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: Look;
  icon?: ReactNode;
  /** Only an icon: as wide as high. */
  square?: boolean;
  ref?: Ref<HTMLButtonElement>;
}

export function Button({ look = "plain", icon, square, className, children, ...rest }: ButtonProps) {
  return (
    <button
      type="button"
      className={clsx(
        "inline-flex h-8 shrink-0 items-center justify-center gap-1.5 rounded-md text-sm font-medium whitespace-nowrap transition-colors duration-100 pointer-coarse:h-10",
        square ? "w-8 pointer-coarse:w-10" : "px-3",
        LOOKS[look],
        className,
      )}
      {...rest}
    >
      {icon}
      {children}
    </button>
  );
}

export interface IconButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  label: string;
  ref?: Ref<HTMLButtonElement>;
}

/** A button that is only an icon: its name is read out and shown on hover. */
export function IconButton({ label, className, children, ...rest }: IconButtonProps) {
  return (
    <button
      type="button"
      aria-label={label}
      title={label}
      className={clsx(
        "inline-flex size-7 shrink-0 items-center justify-center rounded-md text-muted transition-colors duration-100 hover:bg-sunken hover:text-text disabled:opacity-50 pointer-coarse:size-10",
        className,
      )}
      {...rest}
    >
      {children}
    </button>
  );
}
