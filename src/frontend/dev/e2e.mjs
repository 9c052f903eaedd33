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

check("questions are answered by button, key and text; the turn goes on", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_ask`);
  assert.match(await page.getByTestId("waiting").innerText(), /2 questions wait/);
  await page.waitForFunction(() => /2 questions for you/.test(document.title));
  const cards = page.getByTestId("approval");
  assert.match(
    await cards.first().getByTestId("approval-deadline").innerText(),
    /left, then “deny” is taken/,
  );
  await cards.first().focus();
  await page.keyboard.press("y");
  await page.getByTestId("approval-resolved").filter({ hasText: "You answered “allow once”" }).waitFor();
  await page.getByTestId("waiting").click();
  await page.waitForFunction(() => document.activeElement?.hasAttribute("data-approval"));
  await page.keyboard.press("2");
  await page.getByTestId("approval-text").fill("the drafts");
  await page.getByTestId("approval-text").press("Enter");
  await ended(page);
  assert.match(
    await answer(page),
    /host was read; everything due within \**60 days[\s\S]*Left out: the drafts/,
  );
  assert.equal(await page.getByTestId("waiting").count(), 0);
});

check("at a limit: raised, the turn goes on with the new limits", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_raise`);
  const card = page.getByTestId("approval");
  assert.equal(await card.getByLabel("Model calls").inputValue(), "28");
  assert.equal(await card.getByLabel("Cost").inputValue(), "0.06");
  await page.getByTestId("budget").click();
  await page.getByTestId("raise-limits").click();
  const popover = page.getByRole("dialog", { name: "Budget of this turn" });
  assert.equal(await popover.getByRole("spinbutton", { name: "Model calls" }).inputValue(), "14");
  assert.equal(await popover.getByRole("spinbutton", { name: "Cost" }).inputValue(), "0.06");
  await page.keyboard.press("Escape");
  await card.getByLabel("Model calls").fill("12");
  assert.equal(await card.getByRole("button", { name: "Raise and continue" }).isDisabled(), true);
  await card.getByLabel("Model calls").fill("90");
  await card.getByRole("button", { name: "Raise and continue" }).click();
  await ended(page);
  assert.match(await answer(page), /All 48 contracts/);
  const told = server.state.journals.get("ses_raise").events.filter((e) => e.type === "budget.updated");
  assert.equal(told.at(-1).data.limits.calls, 90);
});

check("a partial answer is accepted at a limit", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_raise`);
  await page.getByRole("button", { name: "Accept partial" }).click();
  await ended(page, "limit");
  assert.match(await page.getByTestId("outcome").innerText(), /limit on model calls was reached/);
});

check("limits are changed while a turn runs", { speed: 0.4 }, async (page, server) => {
  await page.goto(server.url);
  await ask(page);
  await page.locator('[data-testid="tree-row"]').nth(3).waitFor();
  await page.getByTestId("budget").click();
  await page.getByTestId("raise-limits").click();
  await page.getByRole("dialog").getByRole("spinbutton", { name: "Model calls" }).fill("512");
  await page.getByRole("dialog").getByRole("spinbutton", { name: "Time" }).fill("");
  await page.getByRole("button", { name: "Set limits" }).click();
  await ended(page);
  const journal = [...server.state.journals.values()].at(-1);
  const told = journal.events.findLast((e) => e.type === "budget.updated").data.limits;
  assert.deepEqual(told, { calls: 512 });
  await page.getByTestId("budget").click();
  const popover = page.getByRole("dialog", { name: "Budget of this turn" });
  assert.match(await popover.innerText(), /of 512[\s\S]*Time\s+\S+ no limit/);
});

check("one run is cancelled with what is below it; the turn goes on", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_ask`);
  await page.getByTestId("approval").first().waitFor();
  await page.getByTestId("tree").focus();
  await page.keyboard.press("End");
  await page.keyboard.press("c");
  assert.match(await page.getByTestId("cancel-bar").innerText(), /Sort the contracts/);
  await page.keyboard.press("Escape");
  await page.getByTestId("cancel-bar").waitFor({ state: "detached" });
  await page.keyboard.press(".");
  await page.getByRole("menuitem", { name: /Cancel this run/ }).click();
  await page.getByRole("button", { name: "Cancel run" }).click();
  await page.locator('[data-testid="tree-row"][data-status="cancelled"]').waitFor();
  assert.equal(await page.locator('[data-testid="tree-row"][data-status="running"]').count(), 1);
  assert.equal(await page.getByTestId("approval").count(), 1);
});

check("the root run says that cancelling it stops the turn", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_ask`);
  await page.getByTestId("approval").first().waitFor();
  await page.getByTestId("tree").focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("c");
  assert.match(await page.getByTestId("cancel-bar").innerText(), /Stop the whole turn[\s\S]*nothing goes on/);
  await page.getByRole("button", { name: "Stop the turn" }).click();
  await ended(page, "cancelled");
});

check(
  "an interrupted turn is resumed once, and says what came from the journal",
  {},
  async (page, server) => {
    await page.goto(`${server.url}/s/ses_broken`);
    await page.getByTestId("resume").click();
    await page.locator('[data-testid="turn"][data-status="running"]').waitFor();
    await page.getByTestId("origin").filter({ hasText: "Resumed from turn 1, 9 calls" }).waitFor();
    await ended(page);
    await page.getByRole("region", { name: "Messages" }).evaluate((element) => element.scrollTo({ top: 0 }));
    await page.getByTestId("successor").filter({ hasText: "Resumed in turn 2" }).waitFor();
    assert.equal(await page.getByTestId("resume").count(), 0);
    await page.getByTestId("turn-menu").first().click();
    await page.getByRole("menuitem", { name: "Replay from the journal" }).waitFor();
    assert.equal(await page.getByRole("menuitem", { name: "Resume" }).count(), 0);
  },
);

check("a turn is replayed in a session of its own, which says so", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_renew`);
  await page.getByTestId("turn-menu").last().click();
  await page.getByRole("menuitem", { name: "Replay from the journal" }).click();
  await page.waitForURL((url) => !url.pathname.endsWith("ses_renew"));
  await ended(page);
  assert.match(await page.getByTestId("lineage").innerText(), /Replay of turn 2 of Contracts that renew/);
  const taken = page.getByTestId("origin").last();
  await taken.filter({ hasText: "15 calls taken from the journal" }).waitFor();
  assert.doesNotMatch(await taken.innerText(), /from another session/);
  assert.equal(await page.getByTestId("run-count").getAttribute("data-total"), "13");
});

check("a menu opens although the page moves under the pressed pointer", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_asyncio`);
  for (const name of ["turn-menu", "budget"]) {
    const button = page.getByTestId(name).last();
    await button.hover();
    await page.mouse.down();
    await button.evaluate((element) => {
      element.parentElement.style.translate = "0 60px";
    });
    await page.mouse.up();
    await page.getByRole(name === "budget" ? "dialog" : "menu").waitFor();
    await page.keyboard.press("Escape");
  }
});

check(
  "a pressed entry is taken although the menu moves; one that is dragged off is not",
  {},
  async (page, server) => {
    await page.goto(`${server.url}/s/ses_limit`);
    const entry = page.getByRole("menuitem", { name: "Raise the limit and continue…" });
    const press = async () => {
      await page.getByTestId("turn-menu").click();
      await entry.hover();
      await page.mouse.down();
    };
    await press();
    await page.mouse.move(700, 40);
    await page.mouse.up();
    assert.equal(await page.getByTestId("raise").getAttribute("open"), null);
    await page.keyboard.press("Escape");
    await page.getByRole("menu").waitFor({ state: "detached" });
    await press();
    await page.getByRole("menu").evaluate((menu) => {
      menu.style.translate = "0 90px";
    });
    await page.mouse.up();
    await page.locator('[data-testid="limits-form"] input[data-reached]:focus').waitFor();
  },
);

check("an open menu keeps the focus, and is used by key", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_asyncio`);
  await page.getByTestId("turn-menu").last().click();
  await page.getByRole("menu").waitFor();
  for (const [entry, thief] of [
    ["Ask again", "composer"],
    ["Replay from the journal", "main"],
    ["Fork from here…", "composer"],
  ]) {
    await page.keyboard.press("ArrowDown");
    await page.locator('[role="menuitem"]:focus', { hasText: entry }).waitFor();
    await page.evaluate((id) => document.getElementById(id).focus(), thief);
  }
  await page.keyboard.press("Enter");
  await page.getByTestId("fork-form").waitFor();
  assert.equal(await page.getByRole("menu").count(), 0);
});

check("what says where a session comes from has its place before it is there", {}, async (page, server) => {
  const place = (testid) =>
    page
      .getByTestId(testid)
      .evaluate(
        (element) => element.getBoundingClientRect().top + element.closest("[role=region]").scrollTop,
      );
  await page.goto(`${server.url}/s/ses_asyncio`);
  await page.getByTestId("turn-menu").last().click();
  await page.getByRole("menuitem", { name: "Replay from the journal" }).click();
  await page.waitForURL((url) => !url.pathname.endsWith("ses_asyncio"));
  await ended(page);
  let release = () => {};
  const held = new Promise((resolve) => {
    release = resolve;
  });
  await page.route(/\/(Lineage|OriginLine)-/, async (route) => {
    await held;
    await route.continue();
  });
  await page.reload();
  await ended(page);
  const before = await place("question");
  release();
  await page.getByTestId("lineage").waitFor();
  await page.getByTestId("origin").waitFor();
  assert.equal(await place("question"), before);
});

check("a question is asked again with the very limits it had", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_failed`);
  await page.getByRole("button", { name: "Ask again" }).click();
  await ended(page);
  const accepted = server.state.journals.get("ses_failed").events.filter((e) => e.type === "turn.accepted");
  assert.deepEqual(accepted[1].data.limits, accepted[0].data.limits);
});

check("the card of a limit is gone to also when it comes late", {}, async (page, server) => {
  let release = () => {};
  const held = new Promise((resolve) => {
    release = resolve;
  });
  await page.route(/\/Outcome-/, async (route) => {
    await held;
    await route.continue();
  });
  await page.goto(`${server.url}/s/ses_limit`);
  await page.getByTestId("turn-menu").click();
  await page.getByRole("menuitem", { name: "Raise the limit and continue…" }).click();
  await page.waitForTimeout(2000);
  release();
  const calls = page.getByTestId("limits-form").getByLabel("Model calls");
  await page.waitForFunction((name) => document.activeElement?.id === name, await calls.getAttribute("id"), {
    timeout: 10_000,
  });
});

check("a turn at its limit is raised and resumed from its card", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_limit`);
  await page.getByTestId("turn-menu").click();
  assert.equal(await page.getByRole("menuitem", { name: "Resume" }).count(), 0);
  await page.getByRole("menuitem", { name: "Raise the limit and continue…" }).click();
  const calls = page.getByTestId("limits-form").getByLabel("Model calls");
  await page.waitForFunction((name) => document.activeElement?.id === name, await calls.getAttribute("id"));
  await calls.fill("20");
  assert.equal(await page.getByRole("button", { name: "Continue" }).isDisabled(), true);
  await calls.fill("40");
  await page.getByTestId("limits-form").getByLabel("Cost").fill("2.5");
  await page.getByRole("button", { name: "Continue" }).click();
  await ended(page);
  const accepted = server.state.journals.get("ses_limit").events.filter((e) => e.type === "turn.accepted");
  assert.equal(accepted.length, 2);
  assert.deepEqual(
    [accepted[1].data.limits.cost_usd, accepted[1].data.limits.calls, accepted[1].data.origin.kind],
    [2.5, 40, "resume"],
  );
});

check(
  "a question is edited in a fork; the new session tells where it comes from",
  {},
  async (page, server) => {
    await page.goto(`${server.url}/s/ses_asyncio`);
    await page.getByTestId("question").first().hover();
    await page.getByTestId("edit-question").click();
    await page.getByTestId("fork-question").fill("And where is it cancelled?");
    await page.getByTestId("fork-submit").click();
    await page.waitForURL((url) => !url.pathname.endsWith("ses_asyncio"));
    await ended(page);
    assert.equal(await page.getByTestId("question").innerText(), "And where is it cancelled?");
    assert.match(await page.getByTestId("lineage").innerText(), /Forked from Where does asyncio/);
    await page.getByTestId("lineage").getByRole("link").click();
    await page.waitForURL(/ses_asyncio/);
  },
);

check("a cell is edited and run from there in a fork", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_renew`);
  await page.getByTestId("fork-cell").first().click();
  const editor = page.getByTestId("code-editor");
  await editor.press("Control+End");
  await editor.press("Enter");
  await editor.pressSequentially("for row in rows:");
  await editor.press("Enter");
  await editor.pressSequentially("print(row)");
  assert.match(await editor.inputValue(), /for row in rows:\n {4}print\(row\)$/);
  assert.match(await page.getByTestId("fork-form").innerText(), /Different: cell/);
  await page.getByTestId("fork-submit").click();
  await page.waitForURL((url) => !url.pathname.endsWith("ses_renew"));
  await ended(page);
});

check("a call is made with another prompt in a fork", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_renew?tab=prompt`);
  await page.getByTestId("fork-prompt-open").first().click();
  const field = page.getByTestId("fork-prompt");
  assert.match(await field.inputValue(), /^Task: Which of these contracts/);
  assert.equal(await page.getByTestId("fork-submit").isDisabled(), true);
  await field.fill("Task: only the first contract.");
  assert.match(await page.getByTestId("fork-form").innerText(), /Different: prompt/);
  await page.getByTestId("fork-submit").click();
  await page.waitForURL((url) => !url.pathname.endsWith("ses_renew"));
  await ended(page);
  assert.match(await page.getByTestId("lineage").innerText(), /Forked from .* at turn 2/);
});

check("two turns are compared, run by run", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_renew`);
  await page.getByTestId("turn-menu").last().click();
  await page.getByRole("menuitem", { name: "Compare with…" }).click();
  await page.getByTestId("compare-choice").first().click();
  await page.waitForURL(/\/compare\?a=.*b=/);
  await page.getByTestId("pair").first().waitFor();
  assert.equal(await page.locator('[data-testid="pair"][data-change="added"]').count(), 5);
  await page.getByRole("button", { name: /Show all/ }).click();
  assert.equal(await page.getByTestId("pair").count(), 13);
  const taken = page.locator('[data-testid="pair"][data-change="same"]').first();
  await taken.getByRole("button").click();
  assert.match(await taken.innerText(), /In B this run was taken whole from an earlier turn/);
  assert.equal(await taken.getByTestId("diff").count(), 0);
  await taken.getByRole("button").first().click();
  await page.getByTestId("pair-details").getByRole("link", { name: "Open in B" }).click();
  await page.getByTestId("turn").last().waitFor();
});

check("what was read is shown, and a span opens its lines", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_renew?view=context`);
  assert.match(await page.getByTestId("coverage-share").first().innerText(), /\d+ % read/);
  await page.getByTestId("span").first().click();
  await page.getByTestId("cited-line").first().waitFor();
  assert.match(page.url(), /span=/);
  await page.keyboard.press("Escape");
  await page.waitForURL((url) => !url.search.includes("span="));
});

check("files are previewed; a page is closed in and its scripts wait", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_renew`);
  await page
    .getByTestId("artifact-chips")
    .getByRole("button", { name: /renewals.csv/ })
    .click();
  await page.getByTestId("artifact-table").getByRole("button", { name: "yearly_usd" }).click();
  const first = page.getByTestId("artifact-table").locator("tbody tr").first();
  assert.match(await first.innerText(), /Northwind hosting, 1\s/);
  await page.getByTestId("artifact-row").filter({ hasText: "report.md" }).click();
  await page
    .getByTestId("artifact-markdown")
    .getByRole("heading", { name: /renew by themselves/ })
    .waitFor();
  await page.getByLabel(/Changes since version 1/).check();
  await page.getByTestId("diff").waitFor();
  await page.getByTestId("artifact-row").filter({ hasText: "renewals.html" }).click();
  const frame = page.getByTestId("artifact-frame");
  assert.equal(await frame.getAttribute("sandbox"), "");
  await page.frameLocator('[data-testid="artifact-frame"]').getByText("notice until 2 December").waitFor();
  assert.equal(
    await page.frameLocator('[data-testid="artifact-frame"]').getByText("Scripts run.").count(),
    0,
  );
  await page.getByTestId("run-scripts").click();
  await page.frameLocator('[data-testid="artifact-frame"]').getByText("Scripts run.").waitFor();
  assert.equal(await frame.getAttribute("sandbox"), "allow-scripts");
});

check("memory is edited by the person, and a change is undone", {}, async (page, server) => {
  await page.goto(`${server.url}/s/ses_renew?view=memory`);
  const block = page.getByTestId("memory-block").filter({ hasText: "findings" });
  await block.getByRole("button", { name: "Edit findings" }).click();
  await block.getByTestId("memory-text").fill("Nothing is certain.");
  await block.getByRole("button", { name: "Save" }).click();
  await block.getByText("Nothing is certain.").waitFor();
  await page.getByTestId("memory-edit").first().getByTestId("memory-undo").click();
  await block.getByText(/17 of 48 contracts/).waitFor();
  assert.equal(await page.getByTestId("memory-edit").count(), 4);
});

check(
  "the palette finds actions, sessions and runs; t turns the tree into a timeline",
  {},
  async (page, server) => {
    await page.goto(`${server.url}/s/ses_renew`);
    await page.locator('[data-testid="tree-row"]').nth(2).click();
    await page.waitForURL(/run=/);
    const chosen = await page.locator('[role="treeitem"][aria-selected="true"]').getAttribute("data-run");
    await page.keyboard.press("t");
    await page.getByTestId("timeline").waitFor();
    assert.equal(await page.locator(`#time-${chosen}`).getAttribute("aria-selected"), "true");
    await page.keyboard.press("t");
    await page.locator('[data-testid="tree-row"]').first().waitFor();
    await page.keyboard.press("Control+k");
    await page.getByTestId("palette").waitFor();
    await page.keyboard.type("incident");
    await page.keyboard.press("Enter");
    await page.waitForURL(/ses_failed/);
  },
);

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
