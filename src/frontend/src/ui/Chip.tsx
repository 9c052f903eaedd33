import { clsx } from "clsx";
import type { ReactNode } from "react";

type Tone = "neutral" | "warn" | "err" | "ok" | "run" | "accent";

const TONES: Record<Tone, string> = {
  neutral: "border-line bg-panel text-muted",
  warn: "border-transparent bg-warn-soft text-warn",
  err: "border-transparent bg-err-soft text-err",
  ok: "border-transparent bg-ok-soft text-ok",
  run: "border-transparent bg-run-soft text-run",
  accent: "border-transparent bg-accent-soft text-accent",
};

export function Chip(props: { tone?: Tone; children: ReactNode; title?: string; className?: string }) {
  return (
    <span
      title={props.title}
      className={clsx(
        "inline-flex h-5.5 max-w-full items-center gap-1 rounded-md border px-1.5 text-xs whitespace-nowrap",
        TONES[props.tone ?? "neutral"],
        props.className,
      )}
    >
      {props.children}
    </span>
  );
}
