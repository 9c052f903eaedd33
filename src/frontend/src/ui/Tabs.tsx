import { clsx } from "clsx";
import { type KeyboardEvent, type ReactNode, useId, useRef } from "react";

export interface TabEntry<T extends string> {
  name: T;
  label: ReactNode;
}

interface TabsProps<T extends string> {
  label: string;
  tabs: TabEntry<T>[];
  value: T;
  onChange: (value: T) => void;
  children: ReactNode;
}

const MOVES: Record<string, (at: number, count: number) => number> = {
  ArrowRight: (at, count) => (at + 1) % count,
  ArrowLeft: (at, count) => (at - 1 + count) % count,
  Home: () => 0,
  End: (_at, count) => count - 1,
};

/** WAI-ARIA tabs: one stop for Tab, arrows move and choose. Only the chosen panel exists. */
export function Tabs<T extends string>({ label, tabs, value, onChange, children }: TabsProps<T>) {
  const id = useId();
  const list = useRef<HTMLDivElement>(null);
  const onKey = (event: KeyboardEvent) => {
    const move = MOVES[event.key];
    if (!move) return;
    event.preventDefault();
    const at = move(
      tabs.findIndex((tab) => tab.name === value),
      tabs.length,
    );
    const next = tabs[at];
    if (!next) return;
    onChange(next.name);
    list.current?.querySelectorAll<HTMLElement>('[role="tab"]')[at]?.focus();
  };
  return (
    <>
      <div
        ref={list}
        role="tablist"
        aria-label={label}
        onKeyDown={onKey}
        className="flex shrink-0 gap-1 overflow-x-auto border-b px-2 pt-1"
      >
        {tabs.map((tab) => {
          const chosen = tab.name === value;
          return (
            <button
              key={tab.name}
              type="button"
              role="tab"
              id={`${id}-${tab.name}`}
              aria-selected={chosen}
              aria-controls={chosen ? `${id}-panel` : undefined}
              tabIndex={chosen ? 0 : -1}
              onClick={() => onChange(tab.name)}
              className={clsx(
                "h-8 rounded-t-sm border-b-2 px-2 text-xs whitespace-nowrap -outline-offset-2 pointer-coarse:h-10",
                chosen
                  ? "border-accent font-medium text-text"
                  : "border-transparent text-muted hover:text-text",
              )}
            >
              {tab.label}
            </button>
          );
        })}
      </div>
      <div
        role="tabpanel"
        id={`${id}-panel`}
        aria-labelledby={`${id}-${value}`}
        tabIndex={0}
        className="min-h-0 flex-1 overflow-y-auto p-3 -outline-offset-2"
      >
        {children}
      </div>
    </>
  );
}
