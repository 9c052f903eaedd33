// The engine's controls as a person uses them, in a real Chromium on the real server: questions, limits, cancellation,
// resume, forks, replay, comparison. The model is a script of the Python tests.
import { ask, by, events, given, open, perform, seen, shoot, untilRuns } from "./chromium.mjs";

const ended = (page, status) => page.locator(`[data-testid="turn"][data-status="${status}"]`).last().waitFor();
const answer = (page) => by(page, "answer").last().innerText();
const row = (page, words) => by(page, "tree-row").filter({ hasText: words }).first();
const sessionOf = (page) => new URL(page.url()).pathname.split("/")[2];

async function begin(calls) {
  const page = await open(given.url);
  await by(page, "mode").selectOption("rlm");
  if (calls !== undefined) {
    await page.getByRole("button", { name: "Limits" }).click();
    await page.getByRole("dialog").getByRole("spinbutton", { name: "Model calls" }).fill(calls);
    await page.keyboard.press("Escape");
  }
  return page;
}

async function elsewhere(page, act) {
  const before = sessionOf(page);
  await act();
  await page.waitForURL((url) => url.pathname.startsWith("/s/") && url.pathname.split("/")[2] !== before);
}

async function turnMenu(page, item) {
  await by(page, "turn-menu").last().click();
  await page.getByRole("menuitem", { name: item }).click();
}

/** Choose a run in the tree, and a tab of its details. */
async function choose(page, words, tab) {
  await row(page, words).click();
  await page.getByRole("tab", { name: tab }).click();
}

const scenarios = {
  // The policy asks before the first child; the limit on calls asks before it ends the turn.
  async questions() {
    const page = await begin("4");
    await ask(page, given.question);
    const card = by(page, "approval");
    await card.waitFor();
    await shoot(page, "real-approval");
    seen.choices = await by(page, "approval-choice").allInnerTexts();
    await card.getByRole("button", { name: "Allow for this turn" }).click();
    await by(page, "approval-resolved").filter({ hasText: "allow for this turn" }).waitFor();
    await by(page, "limits-form").waitFor();
    await shoot(page, "real-limit");
    seen.asked = await card.locator("p").allInnerTexts();
    seen.proposed = await card.getByRole("spinbutton", { name: "Model calls" }).inputValue();
    await card.getByRole("button", { name: "Raise and continue" }).click();
    await ended(page, "ok");
    seen.answer = await answer(page);
    await by(page, "budget").click();
    seen.budget = await page.getByRole("dialog", { name: "Budget of this turn" }).innerText();
    await shoot(page, "real-budget");
    seen.events = await events(page);
  },

  // Nobody is asked at the limit: the turn ends there, and goes on with a higher one from its menu.
  async raise() {
    const page = await begin("3");
    await ask(page, given.question);
    await ended(page, "limit");
    await by(page, "turn-menu").click();
    seen.menu = await page.getByRole("menuitem").allInnerTexts();
    await page.getByRole("menuitem", { name: "Raise the limit and continue…" }).click();
    await shoot(page, "real-raise");
    const form = by(page, "limits-form");
    seen.proposed = await form.getByRole("spinbutton", { name: "Model calls" }).inputValue();
    await form.getByRole("spinbutton", { name: "Model calls" }).fill("20");
    await form.getByRole("button", { name: "Continue" }).click();
    await ended(page, "ok");
    seen.answer = await answer(page);
    seen.events = await events(page);
  },

  // One child hangs: it is stopped alone, and its parent goes on without it.
  async cancelRun() {
    const page = await begin();
    await ask(page, given.question);
    await untilRuns(page, 4);
    await row(page, "child 1").locator("xpath=self::*[@data-status='running']").waitFor();
    await row(page, "child 0").locator("xpath=self::*[@data-status='ok']").waitFor();
    await row(page, "child 1").click();
    await by(page, "tree").focus();
    await page.keyboard.press("c");
    seen.bar = await by(page, "cancel-bar").innerText();
    await shoot(page, "real-cancel");
    await page.getByRole("button", { name: "Cancel run" }).click();
    await ended(page, "ok");
    seen.answer = await answer(page);
    seen.cancelled = await page.locator('[data-testid="tree-row"][data-status="cancelled"]').allInnerTexts();
    await shoot(page, "real-cancelled");
    seen.events = await events(page);
  },

  // One child hangs: the whole turn is stopped.
  async stop() {
    const page = await begin();
    await ask(page, given.question);
    await row(page, "child 1").locator("xpath=self::*[@data-status='running']").waitFor();
    await row(page, "child 0").locator("xpath=self::*[@data-status='ok']").waitFor();
    await by(page, "stop").click();
    const began = Date.now();
    await page.getByText("Stopped", { exact: false }).first().waitFor();
    seen.ms = Date.now() - began;
    await ended(page, "cancelled");
    seen.events = await events(page);
  },

  // A turn is under way when the server dies.
  async leave() {
    const page = await begin();
    await ask(page, given.question);
    await untilRuns(page, 4);
    await row(page, "child 0").locator("xpath=self::*[@data-status='ok']").waitFor();
    await row(page, "child 2").locator("xpath=self::*[@data-status='ok']").waitFor();
    seen.session = sessionOf(page);
  },

  // The next server: what was left is resumed from its card, and set beside its beginning.
  async resume() {
    const page = await open(given.url);
    await page.goto(new URL(`/s/${given.session}`, given.url).href);
    await by(page, "resume").waitFor();
    await shoot(page, "real-interrupted");
    await by(page, "resume").click();
    await ended(page, "ok");
    seen.answer = await answer(page);
    seen.origin = await by(page, "origin").last().innerText();
    await by(page, "successor").waitFor();
    seen.resumes = await by(page, "resume").count();
    await shoot(page, "real-resumed");
    seen.events = await events(page);
    await turnMenu(page, "Compare with…");
    await by(page, "compare-choice").first().click();
    await by(page, "pair").first().waitFor();
    await page.getByRole("button", { name: /Show all/ }).click();
    seen.pairs = await by(page, "pair").evaluateAll((all) => all.map((pair) => pair.dataset.change));
    const taken = by(page, "pair").filter({ hasText: "child 0" });
    await taken.getByRole("button").click();
    seen.taken = await taken.innerText();
    await shoot(page, "real-compare-resumed");
  },

  // A finished turn goes on otherwise: another question, another cell, another prompt; and once more as it was.
  async again() {
    const page = await begin();
    await ask(page, given.question);
    await ended(page, "ok");
    const first = page.url();
    await by(page, "question").hover();
    await elsewhere(page, async () => {
      await by(page, "edit-question").click();
      await by(page, "fork-question").fill(given.other);
      await by(page, "fork-submit").click();
    });
    await ended(page, "ok");
    seen.otherQuestion = await by(page, "question").innerText();
    seen.otherQuestionAnswer = await answer(page);
    seen.lineage = await by(page, "lineage").innerText();
    await shoot(page, "real-fork");

    await page.goto(first);
    await elsewhere(page, async () => {
      await by(page, "fork-cell").first().click();
      await by(page, "code-editor").fill("got = ['edited']");
      await shoot(page, "real-fork-cell");
      await by(page, "fork-submit").click();
    });
    await ended(page, "ok");
    seen.otherCellAnswer = await answer(page);
    await turnMenu(page, "Compare with…");
    await by(page, "compare-choice").first().click();
    await by(page, "pair").first().waitFor();
    seen.pairs = await by(page, "pair").evaluateAll((all) => all.map((pair) => pair.dataset.change));
    await shoot(page, "real-compare");

    await page.goto(first);
    await choose(page, "child 0", "Prompt");
    await elsewhere(page, async () => {
      await by(page, "fork-prompt-open").first().click();
      const prompt = by(page, "fork-prompt");
      await prompt.fill((await prompt.inputValue()).replaceAll("child 0", "child 7"));
      await shoot(page, "real-fork-prompt");
      await by(page, "fork-submit").click();
    });
    await ended(page, "ok");
    seen.otherPromptAnswer = await answer(page);
    seen.forked = await events(page);

    await page.goto(first);
    await by(page, "turn-menu").waitFor();
    await elsewhere(page, () => turnMenu(page, "Replay from the journal"));
    await ended(page, "ok");
    seen.replayAnswer = await answer(page);
    seen.replayLineage = await by(page, "lineage").innerText();
    seen.replayed = await events(page);
    await shoot(page, "real-replay");
  },
};

await perform(scenarios);
