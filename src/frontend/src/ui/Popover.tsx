import type { ReactNode } from "react";
import { lazyLayer, type Triggered } from "./layer";

export interface PopoverProps extends Triggered {
  label: string;
  children: (close: () => void) => ReactNode;
  align?: "start" | "center" | "end";
  side?: "top" | "bottom";
  width?: number;
}

export const Popover = lazyLayer<PopoverProps>("dialog", () =>
  import("./RadixPopover").then((module) => module.RadixPopover),
);
