import { isMac } from "./ui";

const MOD = isMac() ? "⌘" : "Ctrl";

export const SHORTCUTS: [keys: string, what: string][] = [
  [`${MOD} K`, "Everything that can be done"],
  ["/", "Go to the question field"],
  ["Enter", "Send (in the question field)"],
  ["Shift Enter", "New line (in the question field)"],
  ["Alt N", "New session"],
  [`${MOD} B`, "Session list"],
  [`${MOD} J`, "Inspector"],
  [`${MOD} .`, "Stop the turn"],
  ["g ,", "Settings"],
  ["g t", "Go to the run tree"],
  ["t", "Tree or timeline"],
  ["↑ ↓ ← →", "Move in the run tree"],
  ["*", "Open all siblings in the run tree"],
  ["c", "Cancel the run under the cursor, with its sub-runs"],
  ["f", "Fork from the run under the cursor"],
  ["y", "Copy a link to the run under the cursor"],
  [".", "Menu of the run under the cursor"],
  ["Y N", "Answer a question that waits"],
  ["1 … 9", "Answer a question by its choice"],
  ["Esc", "Close the top layer"],
  ["?", "This list"],
];
