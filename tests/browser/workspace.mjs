// Scenarios of the whole system in a real Chromium. Usage: node workspace.mjs SCENARIO '{"url":..., ...}'
// Prints one JSON object with what was seen; the Python tests judge it.
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const require = createRequire(new URL("../../src/frontend/package.json", import.meta.url));
const { chromium } = require("playwright-core");

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const PATIENCE = 60_000;

const [scenario, json] = process.argv.slice(2);
const given = JSON.parse(json);
const profile = mkdtempSync(join(tmpdir(), "fleet-browser-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: given.chromium,
  headless: true,
  args: FLAGS,
  viewport: { width: 1440, height: 900 },
});
context.setDefaultTimeout(PATIENCE);
const seen = { errors: [], foreign: [] };

async function open(url) {
  const page = await context.newPage();
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  page.on("request", (request) => {
    const to = new URL(request.url());
    if (/^(http|ws)/.test(to.protocol) && to.host !== new URL(given.url).host) seen.foreign.push(request.url());
  });
  await page.goto(url);
  return page;
}

const by = (page, id) => page.getByTestId(id);
const runs = async (page) => Number(await by(page, "run-count").getAttribute("data-total"));

async function ask(page, question) {
  await by(page, "question-input").fill(question);
  await by(page, "question-input").press("Enter");
}

async function untilRuns(page, least) {
  await page.waitForFunction(
    (n) => Number(document.querySelector('[data-testid="run-count"]')?.getAttribute("data-total") ?? 0) >= n,
    least,
  );
}

async function events(page) {
  return await page.evaluate(async () => {
    const sid = location.pathname.split("/")[2];
    const all = [];
    for (let after = 0; ; ) {
      const reply = await (await fetch(`/api/v1/sessions/${sid}/events?after=${after}&limit=500`)).json();
      all.push(...reply.events.map(({ seq, type, turn, data }) => ({ seq, type, turn, status: data.status })));
      if (reply.events.length === 0) return all;
      after = reply.events.at(-1).seq;
    }
  });
}

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

  // Stop a running turn.
  async stop() {
    const page = await open(given.url);
    await by(page, "file-input").setInputFiles(given.file);
    await by(page, "attachment").first().waitFor();
    await ask(page, given.question);
    await untilRuns(page, 3);
    await by(page, "stop").click();
    const began = Date.now();
    await page.getByText("Stopped", { exact: false }).first().waitFor();
    seen.ms = Date.now() - began;
    seen.events = await events(page);
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

try {
  await scenarios[scenario]();
} catch (error) {
  seen.failure = String(error);
  const page = context.pages().at(-1);
  if (page) seen.text = (await page.locator("body").innerText()).slice(0, 3000);
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
console.log(JSON.stringify(seen));
