// A real Chromium for the scenarios beside this file. They are called as: node SCRIPT SCENARIO '{"url":..., ...}', and
// print one JSON object with what was seen; the Python tests judge it.
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
export const given = JSON.parse(json);
const profile = mkdtempSync(join(tmpdir(), "fleet-browser-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: given.chromium,
  headless: true,
  args: FLAGS,
  viewport: { width: 1440, height: 900 },
});
context.setDefaultTimeout(PATIENCE);
export const seen = { errors: [], foreign: [] };

export async function open(url) {
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

export const by = (page, id) => page.getByTestId(id);
export const runs = async (page) => Number(await by(page, "run-count").getAttribute("data-total"));

export async function ask(page, question) {
  await by(page, "question-input").fill(question);
  await by(page, "question-input").press("Enter");
}

export async function untilRuns(page, least) {
  await page.waitForFunction(
    (n) => Number(document.querySelector('[data-testid="run-count"]')?.getAttribute("data-total") ?? 0) >= n,
    least,
  );
}

/** Facts of an event's data that the tests judge. */
const FACTS = ["status", "kind", "unit", "choices", "answer", "limits", "origin", "replayed", "edit", "question"];

/** All events of the session on screen, in short. */
export async function events(page) {
  return await page.evaluate(async (facts) => {
    const sid = location.pathname.split("/")[2];
    const all = [];
    for (let after = 0; ; ) {
      const reply = await (await fetch(`/api/v1/sessions/${sid}/events?after=${after}&limit=500`)).json();
      for (const { seq, type, turn, run, data } of reply.events) {
        const known = facts.filter((fact) => data[fact] !== undefined).map((fact) => [fact, data[fact]]);
        all.push({ seq, type, turn, run, ...Object.fromEntries(known) });
      }
      if (reply.events.length === 0) return all;
      after = reply.events.at(-1).seq;
    }
  }, FACTS);
}

/** Pictures in both themes, where a folder for them is given. */
export async function shoot(page, name) {
  if (!given.shots) return;
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.waitForTimeout(500);
    await page.screenshot({ path: join(given.shots, `${name}-${colorScheme}.png`) });
  }
}

/** Do the scenario that was asked for, and say what was seen, also when it failed. */
export async function perform(scenarios) {
  try {
    await scenarios[scenario]();
  } catch (error) {
    seen.failure = String(error);
    const page = context.pages().at(-1);
    if (page) {
      seen.text = (await page.locator("body").innerText()).slice(0, 3000);
      if (given.shots) await page.screenshot({ path: join(given.shots, `failed-${scenario}.png`) });
    }
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
  console.log(JSON.stringify(seen));
}
