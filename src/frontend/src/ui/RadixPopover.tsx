import { Popover as Radix } from "radix-ui";
import { useState } from "react";
import type { Opening } from "./layer";
import type { PopoverProps } from "./Popover";

export function RadixPopover(props: PopoverProps & Opening) {
  const [open, setOpen] = useState(props.startOpen);
  return (
    <Radix.Root open={open} onOpenChange={setOpen}>
      <Radix.Trigger asChild>{props.trigger}</Radix.Trigger>
      <Radix.Portal>
        <Radix.Content
          aria-label={props.label}
          align={props.align ?? "start"}
          side={props.side ?? "bottom"}
          sideOffset={6}
          collisionPadding={8}
          style={{ width: props.width ?? 300 }}
          className="z-50 max-h-[80vh] max-w-[calc(100vw-16px)] animate-in overflow-y-auto rounded-lg border border-line bg-raised p-3 shadow-float"
        >
          {props.children(() => setOpen(false))}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}
