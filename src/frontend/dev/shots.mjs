// Screenshots of every screen in both themes, into the folder given (default: the system's temporary one).
import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { withBrowser } from "./browser.mjs";
import { startServer } from "./server.mjs";

const out = process.argv[2] ?? join(tmpdir(), "fleet-shots");
const only = process.argv[3];
mkdirSync(out, { recursive: true });

const wait = (page, ms) => page.waitForTimeout(ms);

async function shoot(name, options, server, path, act) {
  if (only && !name.includes(only)) return;
  await withBrowser(async (page) => {
    const problems = [];
    page.on("console", (m) => m.type() === "error" && problems.push(m.text()));
    page.on("pageerror", (e) => problems.push(e.message));
    await page.goto(server.url + path);
    await wait(page, 900);
    if (act) await act(page);
    await page.screenshot({ path: join(out, `${name}.png`) });
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
    console.log(
      name,
      `${nodes} nodes`,
      overflow ? "HORIZONTAL SCROLL" : "",
      problems.join(" | ").slice(0, 400),
    );
  }, options);
}

const full = await startServer({ speed: 1 });
const bare = await startServer({ configured: false });

const ask = async (page) => {
  await page
    .getByTestId("question-input")
    .fill("Where does asyncio decide that a timed-out operation raises TimeoutError?");
  await page.getByTestId("question-input").press("Enter");
  await page.waitForSelector('[data-testid="activity"][data-status="running"]');
};

for (const theme of ["light", "dark"]) {
  await shoot(`finished-${theme}`, { theme }, full, "/s/ses_asyncio", (page) => wait(page, 1_200));
  await shoot(`running-${theme}`, { theme }, full, "/", async (page) => {
    await ask(page);
    await wait(page, 2_200);
  });
  await shoot(`wide-${theme}`, { theme }, full, "/s/ses_wide", (page) => wait(page, 800));
  await shoot(`failed-${theme}`, { theme }, full, "/s/ses_failed", (page) => wait(page, 800));
  await shoot(`limit-${theme}`, { theme }, full, "/s/ses_limit");
  await shoot(`start-${theme}`, { theme }, full, "/");
  await shoot(`settings-${theme}`, { theme }, full, "/settings/models");
  await shoot(`first-run-${theme}`, { theme }, bare, "/", async (page) => {
    await page.getByTestId("question-input").fill("Summarise the incident reports in this folder.");
    await page.getByTestId("question-input").press("Enter");
    await wait(page, 300);
  });
  await shoot(`source-${theme}`, { theme }, full, "/s/ses_asyncio?cite=2", (page) => wait(page, 400));
  const phone = { theme, width: 390, height: 844 };
  await shoot(`phone-${theme}`, phone, full, "/s/ses_asyncio");
  await shoot(`phone-start-${theme}`, phone, bare, "/");
  await shoot(`phone-tree-${theme}`, phone, full, "/s/ses_asyncio", async (page) => {
    await page.getByRole("button", { name: "Open the inspector" }).tap();
    await wait(page, 500);
  });
}
await full.close();
await bare.close();
