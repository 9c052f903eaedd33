// Every screen that the gates and the screenshots look at: its address and how to get it into its state.
// `bare`: on a server without a model; `sheet`: behind the inspector's button on a phone; `wide`: not on a phone.

/** Bring a page to a screen. */
export async function open(page, screen, servers, narrow) {
  await page.goto((screen.bare ? servers.bare : servers.full).url + screen.path);
  if (screen.sheet && narrow) await page.getByRole("button", { name: "Open the inspector" }).tap();
  await page.locator(screen.ready).first().waitFor();
  if (screen.act) await screen.act(page);
}

export const SCREENS = [
  { name: "finished", path: "/s/ses_asyncio", ready: '[data-testid="answer"] table' },
  { name: "wide", path: "/s/ses_wide", ready: '[data-testid="tree-group"]', sheet: true },
  { name: "failed", path: "/s/ses_failed?tab=overview", ready: '[role="alert"]' },
  { name: "limit", path: "/s/ses_limit?tab=usage", ready: '[role="note"]' },
  {
    name: "prompt",
    path: "/s/ses_asyncio?tab=prompt",
    ready: '[data-testid="run-detail"] details',
    sheet: true,
  },
  { name: "source", path: "/s/ses_asyncio?cite=2", ready: '[data-testid="cited-line"]' },
  { name: "start", path: "/", ready: '[data-testid="composer"]' },
  { name: "settings", path: "/settings/models", ready: '[data-testid="model-form"]' },
  { name: "not-found", path: "/nowhere", ready: "main h1" },
  {
    name: "budget",
    wide: true,
    path: "/s/ses_asyncio",
    ready: '[data-testid="answer"] table',
    act: async (page) => {
      await page.getByTestId("budget").click();
      await page.getByRole("dialog", { name: "Budget of this turn" }).waitFor();
    },
  },
  { name: "approval", path: "/s/ses_ask", ready: '[data-testid="approval"]' },
  { name: "at-limit", path: "/s/ses_raise", ready: '[data-testid="limits-form"]' },
  { name: "resumed", path: "/s/ses_renew", ready: '[data-testid="artifact-chips"]' },
  {
    name: "interrupted",
    path: "/s/ses_renew",
    ready: '[data-testid="artifact-chips"]',
    act: async (page) => {
      await page.getByTestId("origin").getByRole("button").click();
      await page
        .getByRole("region", { name: "Messages" })
        .evaluate((element) => element.scrollTo({ top: 0 }));
      await page.getByTestId("outcome").waitFor();
    },
  },
  { name: "timeline", path: "/s/ses_renew?view=timeline", ready: '[data-testid="time-row"]', sheet: true },
  { name: "context", path: "/s/ses_renew?view=context", ready: '[data-testid="heat"]', sheet: true },
  {
    name: "span",
    path: "/s/ses_renew?view=context",
    ready: '[data-testid="span"]',
    sheet: true,
    act: async (page) => {
      await page.getByTestId("span").first().click();
      await page.getByTestId("cited-line").first().waitFor();
    },
  },
  ...["renewals.csv", "report.md", "yearly.svg", "renewals.html", "totals.json"].map((file) => ({
    name: `file-${file.split(".")[1]}`,
    path: "/s/ses_renew?view=artifacts",
    ready: '[data-testid="artifact-row"]',
    sheet: true,
    act: async (page) => {
      await page.getByTestId("artifact-row").filter({ hasText: file }).click();
      await page.locator('[data-testid="artifact"] :is(table, .prose, img, iframe, pre)').first().waitFor();
    },
  })),
  { name: "memory", path: "/s/ses_renew?view=memory", ready: '[data-testid="memory-block"]', sheet: true },
  {
    name: "thoughts",
    path: "/s/ses_renew?tab=thoughts",
    ready: '[data-testid="thought"]',
    sheet: true,
  },
  { name: "usage", path: "/s/ses_renew?tab=usage", ready: '[data-testid="run-detail"] table', sheet: true },
  {
    name: "fork-question",
    path: "/s/ses_renew",
    ready: '[data-testid="artifact-chips"]',
    act: async (page) => {
      await page.getByTestId("edit-question").last().click({ force: true });
      await page.getByTestId("fork-form").waitFor();
    },
  },
  {
    name: "fork-prompt",
    path: "/s/ses_renew?tab=prompt",
    ready: '[data-testid="fork-prompt-open"]',
    sheet: true,
    act: async (page) => {
      await page.getByTestId("fork-prompt-open").first().click();
      await page.getByTestId("fork-prompt").waitFor();
    },
  },
  {
    name: "cancel-root",
    path: "/s/ses_ask",
    ready: '[data-testid="tree-row"]',
    sheet: true,
    act: async (page) => {
      await page.getByTestId("tree").focus();
      await page.keyboard.press("Home");
      await page.keyboard.press("c");
      await page.getByTestId("cancel-bar").waitFor();
    },
  },
  {
    name: "compare-taken",
    path: "/s/ses_renew",
    ready: '[data-testid="artifact-chips"]',
    act: async (page) => {
      await page.getByTestId("turn-menu").last().click();
      await page.getByRole("menuitem", { name: "Compare with…" }).click();
      await page.getByTestId("compare-choice").first().click();
      await page.getByRole("button", { name: /Show all/ }).click();
      await page.locator('[data-testid="pair"][data-change="same"]').first().getByRole("button").click();
      await page.getByTestId("pair-details").last().waitFor();
    },
  },
  {
    name: "fork-cell",
    path: "/s/ses_renew",
    ready: '[data-testid="fork-cell"]',
    sheet: true,
    act: async (page) => {
      await page.getByTestId("fork-cell").first().click();
      await page.getByTestId("code-editor").waitFor();
      await page.getByText("Model and limits").click();
    },
  },
  {
    name: "turn-menu",
    path: "/s/ses_renew",
    ready: '[data-testid="artifact-chips"]',
    act: async (page) => {
      await page.getByTestId("turn-menu").last().click();
      await page.getByRole("menu").waitFor();
    },
  },
  {
    name: "compare",
    path: "/s/ses_renew",
    ready: '[data-testid="artifact-chips"]',
    act: async (page) => {
      await page.getByTestId("turn-menu").last().click();
      await page.getByRole("menuitem", { name: "Compare with…" }).click();
      await page.getByTestId("compare-choice").first().click();
      await page.getByTestId("pair").first().waitFor();
    },
  },
  {
    name: "compare-picker",
    path: "/s/ses_renew",
    ready: '[data-testid="artifact-chips"]',
    act: async (page) => {
      await page.getByTestId("turn-menu").last().click();
      await page.getByRole("menuitem", { name: "Compare with…" }).click();
      await page.getByTestId("compare-choice").first().waitFor();
    },
  },
  {
    name: "raise",
    path: "/s/ses_limit",
    ready: '[data-testid="raise"]',
    act: async (page) => {
      await page.getByTestId("raise").locator("summary").click();
      await page.getByTestId("limits-form").waitFor();
    },
  },
  {
    name: "budget-raise",
    wide: true,
    path: "/s/ses_raise",
    ready: '[data-testid="approval"]',
    act: async (page) => {
      await page.getByTestId("budget").click();
      await page.getByRole("dialog", { name: "Budget of this turn" }).waitFor();
      await page.getByTestId("raise-limits").click();
    },
  },
  {
    name: "cancel-run",
    wide: true,
    path: "/s/ses_ask",
    ready: '[data-testid="tree-row"]',
    act: async (page) => {
      await page.getByTestId("tree").focus();
      await page.keyboard.press("End");
      await page.keyboard.press("c");
      await page.getByTestId("cancel-bar").waitFor();
    },
  },
  {
    name: "palette",
    wide: true,
    path: "/s/ses_renew",
    ready: '[data-testid="artifact-chips"]',
    act: async (page) => {
      await page.keyboard.press("Control+k");
      await page.getByTestId("palette").waitFor();
    },
  },
  {
    name: "help",
    wide: true,
    path: "/settings/models",
    ready: '[data-testid="model-form"]',
    act: async (page) => {
      await page.getByRole("button", { name: "Keyboard shortcuts" }).click();
      await page.getByRole("dialog").waitFor();
    },
  },
  {
    name: "running",
    wide: true,
    path: "/",
    ready: '[data-testid="composer"]',
    act: async (page) => {
      await page.getByTestId("question-input").fill("Where does asyncio decide that an operation timed out?");
      await page.getByTestId("question-input").press("Enter");
      await page.locator('[data-testid="tree-row"]').nth(6).waitFor();
    },
  },
  {
    name: "first-run",
    bare: true,
    path: "/",
    ready: '[data-testid="setup-card"]',
    act: async (page) => {
      await page.getByTestId("question-input").fill("Summarise the incident reports in this folder.");
      await page.getByTestId("question-input").press("Enter");
      await page.getByText("Kept:").waitFor();
      await page.getByTestId("setup-key").click();
      await page.getByLabel("API key").waitFor();
    },
  },
  {
    name: "upload-refused",
    path: "/",
    ready: '[data-testid="composer"]',
    act: async (page) => {
      const file = { name: "photo.jpg", mimeType: "image/jpeg", buffer: Buffer.from([1, 0, 2, 0]) };
      await page.getByTestId("file-input").setInputFiles(file);
      await page.locator('[data-testid="attachment"][data-state="failed"]').waitFor();
    },
  },
];
