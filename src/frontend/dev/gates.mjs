// The gates of the built page: sizes, no request to another host, no axe violation on any screen in both themes,
// no horizontal scroll at 390 px, a bounded document and quick tree keys at 5,000 runs. Run after `npm run build`.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { withBrowser } from "./browser.mjs";
import { open, SCREENS } from "./screens.mjs";
import { startServer } from "./server.mjs";

const DIST = join(import.meta.dirname, "../../fleet_rlm/web/dist");
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const LIMITS = { js: 200_000, css: 20_000, all: 3_000_000, nodes: 2_500, keyMs: 50 };
const failures = [];

function gate(ok, text) {
  console.log(`${ok ? "ok  " : "FAIL"}  ${text}`);
  if (!ok) failures.push(text);
}

const kB = (bytes) => `${(bytes / 1_000).toFixed(1)} kB`;

/** What the browser fetches before the answer of a session is on screen; the highlighter follows when idle. */
async function firstLoad(server) {
  await withBrowser(async (page) => {
    const asked = new Map();
    page.on("request", (request) => asked.set(request.url(), request.resourceType()));
    await page.goto(`${server.url}/s/ses_asyncio`);
    await page.locator('[data-testid="answer"] table').waitFor();
    const own = [...asked].filter(
      ([url]) => url.startsWith(server.url) || url.startsWith("data:") || url.startsWith("ws"),
    );
    gate(own.length === asked.size, `no request to another host (${asked.size} requests)`);
    let js = 0;
    let css = 0;
    for (const url of asked.keys()) {
      const path = new URL(url).pathname;
      if (!/\.(js|css)$/.test(path) || path.includes("/highlight-")) continue;
      if (process.env.VERBOSE) console.log("      ", path);
      const file = join(DIST, path);
      const size = statSync(`${file}.gz`, { throwIfNoEntry: false })?.size ?? statSync(file).size;
      if (path.endsWith(".js")) js += size;
      else css += size;
    }
    gate(js <= LIMITS.js, `first-load JavaScript ${kB(js)} gz of ${kB(LIMITS.js)}`);
    gate(css <= LIMITS.css, `CSS ${kB(css)} gz of ${kB(LIMITS.css)}`);
  });
  const files = readdirSync(DIST, { recursive: true }).map((name) => join(DIST, String(name)));
  const all = files.reduce((sum, file) => sum + (statSync(file).isFile() ? statSync(file).size : 0), 0);
  gate(all <= LIMITS.all, `all assets ${kB(all)} of ${kB(LIMITS.all)}`);
}

async function audit(page, label) {
  // Isolated from the page's policy: the checker is ours, not the page's.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const text = violations.map(
    (v) =>
      `${v.id} (${v.nodes.length}): ${v.nodes[0]?.html.slice(0, 160)} ${v.nodes[0]?.any[0]?.message ?? ""}`,
  );
  gate(violations.length === 0, `axe ${label}${text.length ? `\n        ${text.join("\n        ")}` : ""}`);
}

async function screens(servers, theme, size) {
  for (const screen of SCREENS) {
    if (only && screen.name !== only) continue;
    if (size.width < 640 && screen.wide) continue;
    await withBrowser(
      async (page) => {
        const label = `${screen.name}, ${theme}, ${size.width} px`;
        page.on("pageerror", (error) => gate(false, `error on ${label}: ${error.message}`));
        await open(page, screen, servers, size.width < 640);
        await page.waitForTimeout(250);
        await audit(page, label);
        const scrolls = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
        gate(!scrolls, `no horizontal scroll: ${label}`);
      },
      { theme, ...size },
    );
  }
}

async function wide(server) {
  await withBrowser(async (page) => {
    await page.goto(`${server.url}/s/ses_wide`);
    await page.locator('[data-testid="run-count"][data-total="5000"]').waitFor();
    const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
    gate(nodes <= LIMITS.nodes, `5,000 runs: ${nodes} elements of ${LIMITS.nodes}`);
    await page.getByTestId("tree").focus();
    const ms = await page.evaluate(async () => {
      const tree = document.querySelector('[role="tree"]');
      const times = [];
      for (let i = 0; i < 40; i += 1) {
        const start = performance.now();
        tree.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true }));
        await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        times.push(performance.now() - start);
      }
      return times.sort((a, b) => a - b)[20];
    });
    gate(
      ms < LIMITS.keyMs,
      `5,000 runs: a tree key takes ${ms.toFixed(1)} ms (median of 40) of ${LIMITS.keyMs} ms`,
    );
  });
}

const only = process.argv[2];
const servers = { full: await startServer({ speed: 0.7 }), bare: await startServer({ configured: false }) };
await firstLoad(servers.full);
await wide(servers.full);
for (const theme of ["light", "dark"]) {
  await screens(servers, theme, { width: 1440, height: 900 });
  await screens(servers, theme, { width: 390, height: 844 });
}
await servers.full.close();
await servers.bare.close();
if (failures.length) {
  console.error(`${failures.length} gates failed`);
  process.exit(1);
}
