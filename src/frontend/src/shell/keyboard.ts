import { live } from "@/app";
import { activeTurn } from "@/workspace/select";
import { useWorkspace } from "@/workspace/store";
import { isMac, setInspector, toggleList, useUi } from "./ui";

const mac = isMac();

/** In a field, or in a menu, whose letters go to the entry that begins with them. */
function typing(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || target.closest('input,textarea,select,[role="menu"]') !== null)
  );
}

export function stopActive(): void {
  const { bench } = useWorkspace.getState();
  const turn = activeTurn(bench);
  if (bench && turn) void live.command(bench.sid, { op: "turn.cancel", args: { turn: turn.id } });
}

function withModifier(event: KeyboardEvent): boolean {
  if (event.key === "b") toggleList();
  else if (event.key === "j") setInspector(!useUi.getState().inspectorOpen);
  else if (event.key === "k") useUi.setState({ paletteOpen: true });
  else if (event.key === ".") stopActive();
  else return false;
  return true;
}

function focus(selector: string): boolean {
  const element = document.querySelector<HTMLElement>(selector);
  element?.focus();
  return element !== null;
}

/** The runs as tree or over time; the selection stays. */
function toggleTimeline(): boolean {
  const timeline = document.querySelector('[data-testid="timeline"]') !== null;
  const button = document.querySelector<HTMLElement>(
    `[data-testid="show-${timeline ? "tree" : "timeline"}"]`,
  );
  button?.click();
  return button !== null;
}

/** Single letters only while no field has the focus (WCAG 2.1.4). */
export function listenForKeys(go: (to: "/" | "/settings/models") => void): () => void {
  let leader = 0;
  const onKey = (event: KeyboardEvent) => {
    if (event.defaultPrevented || event.isComposing) return;
    const modifier = mac ? event.metaKey : event.ctrlKey;
    let used = false;
    if (modifier && !event.altKey && !event.shiftKey) used = withModifier(event);
    else if (event.altKey && event.code === "KeyN") {
      go("/");
      used = true;
    } else if (!typing(event.target) && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const followsG = Date.now() - leader < 1_000;
      leader = 0;
      used = true;
      if (followsG && event.key === ",") go("/settings/models");
      else if (followsG && event.key === "t") used = focus('[role="tree"]');
      else if (event.key === "g") leader = Date.now();
      else if (event.key === "/") used = focus("#composer");
      else if (event.key === "t") used = toggleTimeline();
      else if (event.key === "?") useUi.setState({ helpOpen: true });
      else used = false;
    }
    if (used) event.preventDefault();
  };
  addEventListener("keydown", onKey);
  return () => removeEventListener("keydown", onKey);
}
