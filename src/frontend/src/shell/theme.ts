import { type Theme, useUi } from "./ui";

const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;

/** The same rule as the inline script of index.html, which runs before the first paint. */
function apply(theme: Theme): void {
  const real = theme === "system" ? (dark() ? "dark" : "light") : theme;
  document.documentElement.dataset.theme = real;
  const colour = getComputedStyle(document.documentElement).getPropertyValue("--bg").trim();
  document.querySelector('meta[name="theme-color"]')?.setAttribute("content", colour);
}

export function setTheme(theme: Theme): void {
  try {
    if (theme === "system") localStorage.removeItem("fleet.theme");
    else localStorage.setItem("fleet.theme", theme);
  } catch {
    // The choice then lasts as long as the page.
  }
  useUi.setState({ theme });
  apply(theme);
}

export function watchTheme(): () => void {
  const list = matchMedia("(prefers-color-scheme: dark)");
  const changed = () => apply(useUi.getState().theme);
  changed();
  list.addEventListener("change", changed);
  return () => list.removeEventListener("change", changed);
}

const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };

export function nextTheme(): void {
  setTheme(NEXT[useUi.getState().theme]);
}
