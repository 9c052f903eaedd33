import { create } from "zustand";

export const isMac = () => /Mac|iPhone|iPad/.test(navigator.userAgent);

export type Theme = "system" | "light" | "dark";

export interface Toast {
  id: number;
  text: string;
  action?: { label: string; run: () => void };
}

/** What a fork starts from: a turn, and the cell whose code, or the call whose prompt, is to be another. */
export interface ForkTarget {
  turn: string;
  cell?: string;
  call?: string;
}

interface UiState {
  theme: Theme;
  listOpen: boolean;
  inspectorOpen: boolean;
  inspectorWidth: number | null;
  treeHeight: number | null;
  helpOpen: boolean;
  paletteOpen: boolean;
  forking: ForkTarget | null;
  /** The turn that another one is being chosen for. */
  comparing: string | null;
  toasts: Toast[];
  /** Sessions that are being deleted and can still be brought back. */
  leaving: string[];
}

function stored<T>(key: string, fallback: T): T {
  try {
    const raw = localStorage.getItem(`fleet.${key}`);
    return raw === null ? fallback : (JSON.parse(raw) as T);
  } catch {
    return fallback;
  }
}

export function remember(key: string, value: unknown): void {
  try {
    localStorage.setItem(`fleet.${key}`, JSON.stringify(value));
  } catch {
    // Without storage the setting lives as long as the page.
  }
}

function storedTheme(): Theme {
  try {
    const theme = localStorage.getItem("fleet.theme");
    return theme === "light" || theme === "dark" ? theme : "system";
  } catch {
    return "system";
  }
}

export const useUi = create<UiState>(() => ({
  theme: storedTheme(),
  listOpen: stored("list", true),
  inspectorOpen: stored("inspector", true),
  inspectorWidth: stored<number | null>("inspectorWidth", null),
  treeHeight: stored<number | null>("treeHeight", null),
  helpOpen: false,
  paletteOpen: false,
  forking: null,
  comparing: null,
  toasts: [],
  leaving: [],
}));

export function toggleList(): void {
  useUi.setState(({ listOpen }) => ({ listOpen: !listOpen }));
  remember("list", useUi.getState().listOpen);
}

export function setInspector(open: boolean): void {
  useUi.setState({ inspectorOpen: open });
  remember("inspector", open);
}

export function setInspectorWidth(width: number): void {
  useUi.setState({ inspectorWidth: width });
  remember("inspectorWidth", width);
}

export function setTreeHeight(height: number): void {
  useUi.setState({ treeHeight: height });
  remember("treeHeight", height);
}

let nextToast = 0;

export function toast(text: string, action?: Toast["action"], ms = 6_000): number {
  nextToast += 1;
  const id = nextToast;
  useUi.setState(({ toasts }) => ({
    toasts: [...toasts.slice(-3), action ? { id, text, action } : { id, text }],
  }));
  setTimeout(() => dismissToast(id), ms);
  return id;
}

export function dismissToast(id: number): void {
  useUi.setState(({ toasts }) => ({ toasts: toasts.filter((entry) => entry.id !== id) }));
}
