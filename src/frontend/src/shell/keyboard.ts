import { live } from "@/app";
import { activeTurn } from "@/workspace/select";
import { useWorkspace } from "@/workspace/store";
import { setInspector, toggleList, useUi } from "./ui";

const mac = /Mac|iPhone|iPad/.test(navigator.userAgent);
const MOD = mac ? "⌘" : "Ctrl";

export const SHORTCUTS: [keys: string, what: string][] = [
  ["/", "Go to the question field"],
  ["Enter", "Send (in the question field)"],
  ["Shift Enter", "New line (in the question field)"],
  ["Alt N", "New session"],
  [`${MOD} B`, "Session list"],
  [`${MOD} J`, "Inspector"],
  [`${MOD} .`, "Stop the turn"],
  ["g ,", "Settings"],
  ["g t", "Go to the run tree"],
  ["↑ ↓ ← →", "Move in the run tree"],
  ["*", "Open all siblings in the run tree"],
  ["Esc", "Close the top layer"],
  ["?", "This list"],
];

function typing(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
  );
}

export function stopActive(): void {
  const { bench } = useWorkspace.getState();
  const turn = activeTurn(bench);
  if (bench && turn) live.command(bench.sid, { op: "turn.cancel", args: { turn: turn.id } });
}

function withModifier(event: KeyboardEvent): boolean {
  if (event.key === "b") toggleList();
  else if (event.key === "j") setInspector(!useUi.getState().inspectorOpen);
  else if (event.key === ".") stopActive();
  else return false;
  return true;
}

function focus(selector: string): boolean {
  const element = document.querySelector<HTMLElement>(selector);
  element?.focus();
  return element !== null;
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
      else if (event.key === "?") useUi.setState({ helpOpen: true });
      else used = false;
    }
    if (used) event.preventDefault();
  };
  addEventListener("keydown", onKey);
  return () => removeEventListener("keydown", onKey);
}
