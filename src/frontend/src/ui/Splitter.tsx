import { clsx } from "clsx";
import type { KeyboardEvent, PointerEvent } from "react";

interface SplitterProps {
  label: string;
  orientation: "vertical" | "horizontal";
  value: number;
  min: number;
  max: number;
  /** +1 when a move to the right or down makes `value` larger, -1 when smaller. */
  direction: 1 | -1;
  onChange: (value: number) => void;
  className?: string;
}

const STEP = 24;

/** A divider that can be dragged and moved by arrow keys (role=separator). */
export function Splitter(props: SplitterProps) {
  const { orientation, value, min, max, direction, onChange } = props;
  const clamp = (next: number) => onChange(Math.round(Math.min(max, Math.max(min, next))));
  const drag = (down: PointerEvent<HTMLDivElement>) => {
    down.preventDefault();
    const from = orientation === "vertical" ? down.clientX : down.clientY;
    const target = down.currentTarget;
    target.setPointerCapture(down.pointerId);
    const move = (event: globalThis.PointerEvent) => {
      const to = orientation === "vertical" ? event.clientX : event.clientY;
      clamp(value + direction * (to - from));
    };
    const end = () => {
      target.removeEventListener("pointermove", move);
      target.removeEventListener("pointerup", end);
    };
    target.addEventListener("pointermove", move);
    target.addEventListener("pointerup", end);
  };
  const key = (event: KeyboardEvent) => {
    const back = orientation === "vertical" ? "ArrowLeft" : "ArrowUp";
    const forth = orientation === "vertical" ? "ArrowRight" : "ArrowDown";
    if (event.key === back) clamp(value - direction * STEP);
    else if (event.key === forth) clamp(value + direction * STEP);
    else if (event.key === "Home") clamp(min);
    else if (event.key === "End") clamp(max);
    else return;
    event.preventDefault();
  };
  return (
    <div
      role="separator"
      tabIndex={0}
      aria-label={props.label}
      aria-orientation={orientation}
      aria-valuenow={value}
      aria-valuemin={min}
      aria-valuemax={max}
      onPointerDown={drag}
      onKeyDown={key}
      className={clsx(
        "relative z-10 shrink-0 bg-line transition-colors hover:bg-accent focus-visible:bg-accent",
        orientation === "vertical"
          ? "w-px cursor-col-resize before:absolute before:inset-y-0 before:-left-1 before:w-2.5"
          : "h-px cursor-row-resize before:absolute before:inset-x-0 before:-top-1 before:h-2.5",
        props.className,
      )}
    />
  );
}
