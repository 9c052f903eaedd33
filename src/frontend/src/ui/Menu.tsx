import type { ReactNode } from "react";
import { lazyLayer, type Triggered } from "./layer";

export interface MenuItem {
  label: string;
  icon?: ReactNode;
  hint?: string;
  danger?: boolean;
  /** It leads the focus elsewhere: the menu does not give it back to its button. */
  movesFocus?: boolean;
  onSelect: () => void;
}

export interface MenuProps extends Triggered {
  items: MenuItem[];
  align?: "start" | "end";
  side?: "top" | "bottom" | "right";
}

export const Menu = lazyLayer<MenuProps>("menu", () =>
  import("./RadixMenu").then((module) => module.RadixMenu),
);
