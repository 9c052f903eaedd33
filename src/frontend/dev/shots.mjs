// Screenshots of every screen in both themes and at both widths, into the folder given (default: the system's
// temporary one). A second word takes only the screens whose name has it.
import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { withBrowser } from "./browser.mjs";
import { open, SCREENS } from "./screens.mjs";
import { startServer } from "./server.mjs";

const out = process.argv[2] ?? join(tmpdir(), "fleet-shots");
const only = process.argv[3];
mkdirSync(out, { recursive: true });

const SIZES = [
  ["", { width: 1440, height: 900 }],
  ["phone-", { width: 390, height: 844 }],
];

async function shoot(screen, servers, theme, prefix, size) {
  const name = `${prefix}${screen.name}-${theme}`;
  if ((only && !name.includes(only)) || (prefix && screen.wide)) return;
  await withBrowser(
    async (page) => {
      const problems = [];
      page.on("console", (m) => m.type() === "error" && problems.push(m.text()));
      page.on("pageerror", (e) => problems.push(e.message));
      try {
        await open(page, screen, servers, prefix !== "");
      } catch (error) {
        problems.push(error.message.split("\n")[0]);
      }
      // Layers fade in, colours of code follow when the page is idle.
      await page.waitForTimeout(900);
      await page.screenshot({ path: join(out, `${name}.png`) });
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
      const words = [
        `${nodes} nodes`,
        overflow ? "HORIZONTAL SCROLL" : "",
        problems.join(" | ").slice(0, 400),
      ];
      console.log(name, words.filter(Boolean).join("  "));
    },
    { theme, ...size },
  );
}

const servers = { full: await startServer({ speed: 1 }), bare: await startServer({ configured: false }) };
for (const theme of ["light", "dark"])
  for (const [prefix, size] of SIZES)
    for (const screen of SCREENS) await shoot(screen, servers, theme, prefix, size);
await servers.full.close();
await servers.bare.close();
