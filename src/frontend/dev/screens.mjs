// Every screen that the gates look at: its address and how to get it into its state.
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
    path: "/s/ses_asyncio",
    ready: '[data-testid="answer"] table',
    act: async (page) => {
      await page.getByTestId("budget").click();
      await page.getByRole("dialog", { name: "Budget of this turn" }).waitFor();
    },
  },
  {
    name: "help",
    path: "/settings/models",
    ready: '[data-testid="model-form"]',
    act: async (page) => {
      await page.getByRole("button", { name: "Keyboard shortcuts" }).click();
      await page.getByRole("dialog").waitFor();
    },
  },
  {
    name: "running",
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
