import { clsx } from "clsx";
import { DropdownMenu as Radix } from "radix-ui";
import { type MouseEvent, type PointerEvent, useRef } from "react";
import { hold, type Opening } from "./layer";
import type { MenuProps } from "./Menu";

/** Back to where it was in the menu. */
function giveBack(menu: HTMLElement | null, from: EventTarget | null): void {
  const entry = from instanceof HTMLElement && menu?.contains(from) ? from : menu;
  entry?.focus({ preventScroll: true });
}

/** How far in pixels a pointer may slip while it presses. */
const SLIP = 8;

/** An entry has the pointer that presses it, wherever the page moves it meanwhile; who drags off takes nothing. */
function usePress() {
  const pressed = useRef({ x: 0, y: 0 });
  return {
    onPointerDown: (event: PointerEvent) => {
      hold(event);
      pressed.current = { x: event.clientX, y: event.clientY };
    },
    onClick: (event: MouseEvent) => {
      const byKey = event.detail === 0;
      const moved = Math.hypot(event.clientX - pressed.current.x, event.clientY - pressed.current.y);
      const over = document.elementFromPoint(event.clientX, event.clientY);
      if (!byKey && moved > SLIP && !event.currentTarget.contains(over)) event.preventDefault();
    },
  };
}

export function RadixMenu(props: MenuProps & Opening) {
  const elsewhere = useRef(false);
  const menu = useRef<HTMLDivElement>(null);
  const press = usePress();
  return (
    <Radix.Root modal={false} defaultOpen={props.startOpen}>
      <Radix.Trigger asChild>{props.trigger}</Radix.Trigger>
      {/* Inside a landmark, so that a reader of the page by its parts finds the menu. */}
      <Radix.Portal container={document.getElementById("main")}>
        <Radix.Content
          ref={menu}
          align={props.align ?? "end"}
          side={props.side ?? "bottom"}
          sideOffset={4}
          collisionPadding={8}
          // A press elsewhere has closed the menu before the focus goes there. What moves it beside that is the page, on
          // its own account (a question of a run, a field that is there now): a person who reads a menu keeps it.
          onFocusOutside={(event) => {
            if (elsewhere.current || (event.target as Element).closest('[role$="dialog"]')) return;
            event.preventDefault();
            giveBack(menu.current, event.detail.originalEvent.relatedTarget);
          }}
          onCloseAutoFocus={(event) => {
            if (elsewhere.current) event.preventDefault();
            elsewhere.current = false;
          }}
          className="z-50 min-w-44 animate-in rounded-lg border border-line bg-raised p-1 shadow-float"
        >
          {props.items.map((item) => (
            <Radix.Item
              key={item.label}
              {...press}
              // Radix takes the entry that a press is let go over, also when the page has moved it there.
              onPointerUp={(event) => event.preventDefault()}
              onSelect={() => {
                elsewhere.current = item.movesFocus ?? false;
                item.onSelect();
              }}
              className={clsx(
                "flex h-8 cursor-pointer items-center gap-2 rounded-md px-2 text-sm outline-none data-[highlighted]:bg-sunken pointer-coarse:h-10",
                item.danger && "text-err",
              )}
            >
              <span className="inline-flex w-4 justify-center text-muted">{item.icon}</span>
              <span className="flex-1">{item.label}</span>
              {item.hint && <span className="pl-4 text-xs text-muted">{item.hint}</span>}
            </Radix.Item>
          ))}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}
