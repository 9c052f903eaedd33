const PATIENCE_MS = 10_000;

/** To the card where a turn's limit is raised, opened, with the focus in its field; it may have to be drawn first. */
export function showRaise(turn: string, until = performance.now() + PATIENCE_MS): void {
  const at = `[data-turn="${CSS.escape(turn)}"] [data-testid="raise"]`;
  const card = document.querySelector<HTMLDetailsElement>(at);
  if (!card) {
    if (performance.now() < until) requestAnimationFrame(() => showRaise(turn, until));
    return;
  }
  card.open = true;
  card.scrollIntoView({ block: "center" });
  const field = card.querySelector<HTMLElement>("input[data-reached]") ?? card.querySelector("input");
  field?.focus({ preventScroll: true });
}
