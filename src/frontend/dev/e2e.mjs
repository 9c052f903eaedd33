// The page as a person uses it, in a real Chromium against the fake server. Run after `npm run build`.
import assert from "node:assert/strict";
import { withBrowser } from "./browser.mjs";
import { startServer } from "./server.mjs";

const QUESTION = "Where does asyncio decide that an operation timed out?";
const checks = [];
const check = (name, options, run) => checks.push({ name, options, run });

const ask = async (page, text = QUESTION) => {
  await page.getByTestId("question-input").fill(text);
  await page.getByTestId("question-input").press("Enter");
};
const ended = (page, status = "ok") =>
  page.locator(`[data-testid="turn"][data-status="${status}"]`).last().waitFor({ timeout: 60_000 });
const answer = (page) => page.getByTestId("answer").last().innerText();

check("a question streams an answer with sources, also when the socket dies", {}, async (page, server) => {
  await page.goto(server.url);
  await page.evaluate(() => {
    window.longest = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
    }).observe({ type: "longtask" });
  });
  await ask(page);
  await page.locator('[data-testid="answer"][data-streaming="true"]').waitFor();
  server.killSockets();
  await page.waitForTimeout(300);
  server.killSockets();
  await ended(page);
  assert.match(
    await answer(page),
    /The decision is made in the timeout context manager[\s\S]*wording between them is fixed/,
  );
  assert.equal(await page.getByTestId("run-count").getAttribute("data-total"), "13");
  assert.equal(await page.getByTestId("turn").count(), 1);
  console.log(`      longest task ${Math.round(await page.evaluate(() => window.longest))} ms`);
});

check(
  "a reload in the middle shows the same turn going on; two tabs agree",
  {},
  async (page, server, context) => {
    await page.goto(server.url);
    await ask(page);
    await page.locator('[data-testid="tree-row"]').nth(3).waitFor();
    await page.reload();
    const second = await context.newPage();
    await second.goto(page.url());
    await ended(page);
    await ended(second);
    assert.equal(await answer(page), await answer(second));
    assert.equal(await page.getByTestId("turn").count(), 1);
  },
);

check("stop ends the turn and everything below it", {}, async (page, server) => {
  await page.goto(server.url);
  await ask(page);
  await page.locator('[data-testid="tree-row"]').nth(3).waitFor();
  await page.getByTestId("stop").click();
  await ended(page, "cancelled");
  assert.equal(await page.getByTestId("run-count").getAttribute("data-active"), "0");
});

check("Enter sends, Shift+Enter does not; a long paste becomes a context", {}, async (page, server) => {
  await page.goto(server.url);
  const field = page.getByTestId("question-input");
  await field.fill("one");
  await field.press("Shift+Enter");
  await field.pressSequentially("two");
  assert.equal(await field.inputValue(), "one\ntwo");
  await field.evaluate((element) => {
    const data = new DataTransfer();
    data.setData("text/plain", "a line of text\n".repeat(900));
    element.dispatchEvent(
      new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }),
    );
  });
  await page.locator('[data-testid="attachment"][data-state="ready"]').waitFor();
  assert.match(await page.getByTestId("attachment").innerText(), /pasted-1\.txt/);
  assert.equal(await field.inputValue(), "one\ntwo");
});

check(
  "files are dropped, shown with their size, and refused when they are no text",
  {},
  async (page, server) => {
    await page.goto(server.url);
    await page.getByTestId("composer").waitFor();
    const drop = (name, text) =>
      page.evaluate(
        ([fileName, content]) => {
          const data = new DataTransfer();
          data.items.add(new File([content], fileName, { type: "text/plain" }));
          dispatchEvent(new DragEvent("dragenter", { dataTransfer: data, bubbles: true }));
          dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        },
        [name, text],
      );
    await drop("notes.txt", "hello\n".repeat(2_000));
    await page.locator('[data-testid="attachment"][data-state="ready"]').waitFor();
    assert.match(await page.getByTestId("attachment").innerText(), /notes\.txt[\s\S]*kB/);
    await drop("photo.bin", "a\0b");
    await page.locator('[data-testid="attachment"][data-state="failed"]').waitFor();
    await page.getByTestId("question-input").fill("What is in it?");
    assert.equal(await page.getByTestId("send").isDisabled(), true);
    await page.getByRole("button", { name: "Remove photo.bin" }).click();
    assert.equal(await page.getByTestId("send").isDisabled(), false);
  },
);

check(
  "first run: the typed question is kept, a wrong key is explained, a right one sends it",
  { configured: false },
  async (page, server) => {
    await page.goto(server.url);
    await ask(page, "Kept until there is a model?");
    await page.getByTestId("setup-key").click();
    await page.getByLabel("API key").fill("wrong");
    await page.getByRole("button", { name: "Test and use" }).click();
    await page.getByText("the provider refused the key").waitFor();
    await page.getByLabel("API key").fill("sk-right-1234");
    await page.getByRole("button", { name: "Test and use" }).click();
    await ended(page);
    assert.equal(await page.getByTestId("question").innerText(), "Kept until there is a model?");
  },
);

check(
  "first run: the demo sends the kept question and says what it is",
  { configured: false },
  async (page, server) => {
    await page.goto(server.url);
    await ask(page);
    await page.getByTestId("setup-demo").click();
    await ended(page);
    assert.match(await page.getByTestId("demo-label").innerText(), /no AI model/);
  },
);

check("a citation opens its line; Escape closes it; the URL holds it", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_asyncio`);
  await page.getByTestId("citation").nth(2).click();
  assert.match(await page.getByTestId("cited-line").innerText(), /109\s+raise TimeoutError from exc_val/);
  assert.match(page.url(), /cite=2/);
  await page.reload();
  await page.getByTestId("cited-line").waitFor();
  await page.keyboard.press("Escape");
  await page.getByTestId("cited-line").waitFor({ state: "detached" });
  assert.doesNotMatch(page.url(), /cite=/);
});

check("the tree is walked by keys, and the selection is in the URL", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_asyncio`);
  await page.locator('[data-testid="tree-row"]').nth(5).waitFor();
  await page.getByTestId("tree").focus();
  for (const key of ["Home", "ArrowDown", "ArrowDown", "Enter"]) await page.keyboard.press(key);
  await page.waitForURL(/run=/);
  const selected = page.locator('[role="treeitem"][aria-selected="true"]');
  assert.equal(await selected.getAttribute("aria-level"), "2");
  const name = await selected.innerText();
  await page.reload();
  assert.equal(await selected.innerText(), name);
  await page.getByTestId("tree").focus();
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  assert.equal(await page.getByTestId("tree").getAttribute("data-rows"), "1");
});

check("a session is renamed and deleted with undo", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_failed`);
  await page.getByRole("button", { name: "Incident report", exact: true }).click();
  await page.getByLabel("Session title").fill("Report of March");
  await page.getByLabel("Session title").press("Enter");
  await page.getByRole("link", { name: /Report of March/ }).waitFor();
  await page.getByRole("link", { name: /Report of March/ }).hover();
  await page.getByRole("button", { name: "Actions for Report of March" }).click();
  await page.getByRole("menuitem", { name: "Delete" }).click();
  await page.getByRole("link", { name: /Report of March/ }).waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Undo" }).click();
  await page.getByRole("link", { name: /Report of March/ }).waitFor();
});

const only = process.argv[2];
let failed = 0;
for (const { name, options, run } of checks) {
  if (only && !name.includes(only)) continue;
  const server = await startServer({ speed: 1.5, ...options });
  try {
    await withBrowser(async (page, context) => {
      const errors = [];
      page.on("pageerror", (error) => errors.push(error.message));
      await run(page, server, context);
      assert.deepEqual(errors, []);
    });
    console.log(`ok    ${name}`);
  } catch (error) {
    failed += 1;
    console.error(`FAIL  ${name}\n${error.stack}`);
  }
  await server.close();
}
process.exit(failed ? 1 : 0);
