import { Link } from "@tanstack/react-router";
import { clsx } from "clsx";
import { Keyboard, Monitor, Moon, PanelLeft, Plus, Settings, Sun } from "lucide-react";
import type { ReactNode } from "react";
import { Logo } from "@/ui/Logo";
import { nextTheme } from "./theme";
import { type Theme, toggleList, useUi } from "./ui";

const item =
  "inline-flex size-9 items-center justify-center rounded-md text-muted transition-colors hover:bg-sunken hover:text-text pointer-coarse:size-10 aria-[current=page]:bg-accent-soft aria-[current=page]:text-accent";

const THEMES: Record<Theme, [ReactNode, string]> = {
  system: [<Monitor key="s" size={17} strokeWidth={1.75} />, "Theme: as the system"],
  light: [<Sun key="l" size={17} strokeWidth={1.75} />, "Theme: light"],
  dark: [<Moon key="d" size={17} strokeWidth={1.75} />, "Theme: dark"],
};

/** 48 px at the left; below 640 px a bar at the bottom. */
export function Rail() {
  const theme = useUi((state) => state.theme);
  const listOpen = useUi((state) => state.listOpen);
  const [icon, label] = THEMES[theme];
  return (
    <nav
      aria-label="Workspace"
      data-chrome
      className="flex shrink-0 items-center gap-1 border-line bg-panel max-sm:order-last max-sm:h-13 max-sm:w-full max-sm:justify-around max-sm:border-t max-sm:px-2 sm:w-12 sm:flex-col sm:border-r sm:py-2"
    >
      <Link to="/" aria-label="fleet-rlm, start page" className="mb-2 rounded-lg max-sm:hidden" tabIndex={0}>
        <Logo size={28} />
      </Link>
      <button
        type="button"
        className={item}
        aria-label="Sessions"
        title="Sessions (Ctrl B)"
        aria-expanded={listOpen}
        onClick={toggleList}
      >
        <PanelLeft size={17} strokeWidth={1.75} aria-hidden="true" />
      </button>
      <Link
        to="/"
        className={item}
        aria-label="New session"
        title="New session (Alt N)"
        activeOptions={{ exact: true }}
      >
        <Plus size={18} strokeWidth={1.75} aria-hidden="true" />
      </Link>
      <div className="flex-1 max-sm:hidden" />
      <button
        type="button"
        className={clsx(item, "max-sm:hidden")}
        aria-label="Keyboard shortcuts"
        title="Keyboard shortcuts (?)"
        onClick={() => useUi.setState({ helpOpen: true })}
      >
        <Keyboard size={17} strokeWidth={1.75} aria-hidden="true" />
      </button>
      <button type="button" className={item} aria-label={label} title={label} onClick={nextTheme}>
        {icon}
      </button>
      <Link to="/settings/models" className={item} aria-label="Settings" title="Settings (g ,)">
        <Settings size={17} strokeWidth={1.75} aria-hidden="true" />
      </Link>
    </nav>
  );
}
