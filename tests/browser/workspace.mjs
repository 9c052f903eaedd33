// Scenarios of the whole system in a real Chromium. Usage: node workspace.mjs SCENARIO '{"url":..., ...}'
// Prints one JSON object with what was seen; the Python tests judge it.
import { ask, by, events, given, open, perform, runs, seen, untilRuns } from "./chromium.mjs";

async function finalAnswer(page) {
  await page.waitForFunction(
    (text) => [...document.querySelectorAll('[data-testid="answer"]')].some((a) => a.textContent.includes(text)),
    given.expect,
  );
  return await by(page, "answer").last().innerText();
}

const scenarios = {
  // Drop a file, ask, watch the tree, open the cited place.
  async answer() {
    const page = await open(given.url);
    await by(page, "file-input").setInputFiles(given.file);
    await by(page, "attachment").first().waitFor();
    await ask(page, given.question);
    await untilRuns(page, given.runs);
    seen.liveRows = await by(page, "tree-row").count();
    seen.answer = await finalAnswer(page);
    seen.runs = await runs(page);
    seen.demo = await by(page, "demo-label").first().innerText();
    if (given.shot) await page.screenshot({ path: given.shot });
    await by(page, "answer").last().getByRole("button", { name: given.place }).first().click();
    seen.cited = await by(page, "cited-line").innerText();
    seen.events = await events(page);
  },

  // Close the tab in the middle of a turn and open the address again.
  async reopen() {
    const first = await open(given.url);
    await by(first, "file-input").setInputFiles(given.file);
    await by(first, "attachment").first().waitFor();
    await ask(first, given.question);
    await untilRuns(first, 3);
    seen.midway = await runs(first);
    const address = first.url();
    await first.close();
    const again = await open(address);
    seen.answer = await finalAnswer(again);
    seen.answers = await by(again, "answer").count();
    seen.runs = await runs(again);
    seen.events = await events(again);
  },

  // No model: the question is kept, the demo is chosen, the question is sent.
  async firstRun() {
    const page = await open(given.url);
    seen.offered = await page.locator("main").innerText();
    await by(page, "file-input").setInputFiles(given.file);
    await by(page, "attachment").first().waitFor();
    await ask(page, given.question);
    await page.getByRole("button", { name: /demo/i }).first().click();
    seen.answer = await finalAnswer(page);
  },
};

await perform(scenarios);
