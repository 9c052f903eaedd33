// The plays of the engine in full: questions to the person, limits, a broken-off turn and its resumption, artifacts,
// memory, coverage. Contents of artifacts stand in `FILES`, by their id.
import {
  ask,
  call,
  cell,
  closeTurn,
  endRun,
  id,
  Journal,
  openTurn,
  Player,
  place,
  read,
  sandbox,
  say,
  startRun,
  takeRun,
  think,
  tool,
} from "./journal.mjs";

const MODEL = "openai/gpt-5-mini";
const HOUR = 3_600_000;

const CONTRACTS = {
  name: "contracts",
  sha256: "a4e1c".padEnd(64, "7"),
  kind: "tree",
  bytes: 3_804_112,
  chars: 3_790_400,
  lines: 61_204,
  files: 48,
};
const RATES = {
  name: "rates.csv",
  sha256: "b7d20".padEnd(64, "3"),
  kind: "text",
  bytes: 184_220,
  chars: 184_220,
  lines: 4_012,
};

const REPORT = `# Contracts that renew by themselves

Of **48** contracts, **17** renew without notice. Three do so within the next 90 days.

| contract | renews on | notice until | yearly |
|---|---|---|---|
| Northwind hosting | 2027-01-31 | 2026-12-02 | $48,000 |
| Contoso licences | 2027-02-14 | 2026-12-16 | $31,500 |
| Fabrikam support | 2027-02-28 | 2026-12-30 | $12,200 |

Each row was read in the contract itself; the amounts come from \`rates.csv\`.
`;
const NAMES = [
  "Northwind",
  "Contoso",
  "Fabrikam",
  "Tailspin",
  "Adventure",
  "Wingtip",
  "Litware",
  "Proseware",
];
const CSV = [
  "contract,kind,renews_on,notice_days,yearly_usd,page",
  ...Array.from({ length: 48 }, (_, i) =>
    [
      `"${NAMES[i % 8]} ${["hosting", "licences", "support"][i % 3]}, ${i + 1}"`,
      ["automatic", "fixed term", "open"][i % 3],
      `2027-0${1 + (i % 9)}-${10 + (i % 18)}`,
      i % 7 === 0 ? "" : 30 * (1 + (i % 4)),
      4_000 + ((i * 7_310) % 52_000),
      3 + (i % 19),
    ].join(","),
  ),
].join("\n");
const JSON_TEXT = JSON.stringify(
  {
    contracts: 48,
    automatic: 17,
    soon: ["Northwind", "Contoso", "Fabrikam"],
    yearly_usd: { soon: 91_700, all: 412_350 },
  },
  null,
  2,
);
const CHART = `<svg xmlns="http://www.w3.org/2000/svg" width="640" height="300" viewBox="0 0 640 300"><rect width="640" height="300" fill="#fff"/>${[
  48, 31.5, 12.2, 27, 9, 41, 18, 22,
]
  .map(
    (v, i) =>
      `<rect x="${40 + i * 74}" y="${250 - v * 4}" width="46" height="${v * 4}" rx="4" fill="#5661d6"/><text x="${63 + i * 74}" y="270" font-family="sans-serif" font-size="12" fill="#444" text-anchor="middle">${NAMES[i]}</text>`,
  )
  .join(
    "",
  )}<text x="40" y="30" font-family="sans-serif" font-size="15" fill="#222">Yearly cost, thousand dollars</text></svg>`;
const HTML = `<!doctype html><meta charset="utf-8"><style>body{font:15px/1.5 system-ui;margin:24px;color:#223}h1{font-size:20px}li{margin:4px 0}b{color:#4650c0}</style><h1>Renewals</h1><ul><li><b>Northwind hosting</b>, notice until 2 December</li><li><b>Contoso licences</b>, notice until 16 December</li><li><b>Fabrikam support</b>, notice until 30 December</li></ul><p id="n"></p><script>document.getElementById("n").textContent = "Scripts run."</script>`;

export const FILES = new Map();

function publish(player, run, name, kind, body, version = 1, cellOf = null) {
  const known = id("art");
  FILES.set(known, { name, kind, body });
  player.journal.add(
    "artifact.published",
    {
      id: known,
      name,
      version,
      sha256: known.padEnd(64, "0"),
      bytes: Buffer.byteLength(body),
      kind,
      ...(cellOf ? { cell: cellOf } : {}),
    },
    place(run),
  );
}

function remember(player, run, block, before, after, who = "agent") {
  player.journal.add("memory.changed", { block, before, after, who }, run ? place(run) : {});
}

const PLAN = `parts = chunks(contracts, size=80_000)
found = rlm_query_batched(
    "Does this contract renew by itself? Quote the clause.",
    contexts=parts,
    schema="renews: bool, clause: str, notice_days: int | None",
)
rows = [r for r in found if r and r.renews]
print(len(rows), "of", len(parts), "renew by themselves")`;

const SAVE = `table = join(rows, read_csv(rates))
save_artifact(table.to_csv(), "renewals.csv")
save_artifact(report(table), "report.md")
save_artifact(chart(table), "yearly.svg")`;

/** `replayed` of them are known: taken whole as a resume does, or each call from the journal (`again`: a replay). */
async function children(
  player,
  t,
  root,
  cellId,
  { to = 12, replayed = 0, again = false, dying = false } = {},
) {
  const begin = player.journal.ts;
  let last = begin;
  for (let i = 0; i < to; i += 1) {
    if (!player.live) player.journal.ts = begin + 140 * i;
    const run = startRun(player, t, root, {
      kind: "rlm",
      task: `Does this contract renew by itself? Quote the clause. (${NAMES[i % 8]} ${i + 1})`,
      chars: 79_000 + ((i * 733) % 9_000),
      contexts: [CONTRACTS],
      site: { cell: cellId, function: "rlm_query_batched", index: i, of: 12 },
    });
    const known = i < replayed;
    const start = 315_000 * i;
    const spans = [
      [start + 2_000, start + 60_000 + ((i * 13_311) % 90_000)],
      [start + 180_000, start + 180_000 + ((i * 7_919) % 60_000)],
    ];
    const output = "{'renews': True, 'notice_days': 60}";
    if (known && !again) {
      read(player, run, CONTRACTS, spans);
      const usage = {
        calls: 1,
        prompt_tokens: 2_950 + ((i * 97) % 400),
        completion_tokens: 140,
        cost_usd: 0.0031,
      };
      takeRun(player, t, run, { usage, output });
      continue;
    }
    sandbox(player, run, 21 + i);
    await call(player, t, run, {
      prompt: "Task: does this contract renew by itself?\ncontext: Slice, never shown.",
      response: "SUBMIT(renews=True, clause=grep('renew')[0].text, notice_days=60)",
      ms: 420 + ((i * 211) % 900),
      tokens: [2_950 + ((i * 97) % 400), 140],
      cost: 0.0031,
      cached_tokens: i > 0 ? 2_048 : 0,
      ...(i % 5 === 3 ? { queued_ms: 120 + 15 * i } : {}),
      ...(i === 7 ? { shared: "call_of_4" } : {}),
      ...(known ? { replayed: true } : {}),
    });
    read(player, run, CONTRACTS, spans);
    const c = await cell(player, run, {
      iteration: 1,
      code: "hits = grep(r'renew|extend|terminat', context)\nSUBMIT(renews=bool(hits), clause=hits[0].text, notice_days=60)",
      ms: 14,
      status: "submitted",
      value: "{'renews': True, 'notice_days': 60}",
    });
    await c.finish();
    if (dying && i === to - 1) break;
    endRun(player, t, run, { output });
    last = Math.max(last, player.journal.ts);
  }
  if (!player.live) player.journal.ts = last;
}

const TASK = "Which of these contracts renew by themselves, and until when must we give notice?";
const THOUGHT = `The contracts are a tree of 48 files, 3.8 million characters: far more than I can read at once. Renewal clauses are usually one paragraph, so a run per piece can find them and quote them.

I will ask for the notice period as a number, so that the merge is arithmetic and needs no further call.`;

function openAudit(player, more = {}) {
  const t = openTurn(player, {
    question: TASK,
    mode: "auto",
    model: MODEL,
    sub_model: "openai/gpt-5-nano",
    contexts: [CONTRACTS, RATES],
    limits: {
      calls: 60,
      cost_usd: 0.5,
      wall_s: 600,
      tokens: 400_000,
      depth: 2,
      children: 100,
      sandboxes: 32,
    },
    ...more,
  });
  player.turn = t;
  const root = startRun(player, t, null, {
    kind: "agent",
    task: TASK,
    contexts: [CONTRACTS, RATES],
    chars: CONTRACTS.chars + RATES.chars,
  });
  sandbox(player, root, 36);
  return { t, root };
}

async function iteration(player, t, root, n, { response, code, marks = {}, inside, ...rest }) {
  const name = id("it");
  player.journal.add("iteration.started", { id: name, n, limit: 8 }, place(root));
  await call(player, t, root, {
    prompt: `Task: ${TASK}\n\ncontracts: tree, 48 files, 3,790,400 characters, never shown\nHistory: ${n - 1} cells`,
    response,
    ms: 1_380,
    tokens: [3_120 + 900 * n, 310],
    cost: 0.0042,
    cached_tokens: n > 1 ? 2_900 + 800 * (n - 1) : 0,
    ...marks,
  });
  const begin = player.journal.ts;
  const c = await cell(player, root, { iteration: n, code, ms: 40, ...rest });
  if (inside) await inside(c.name);
  const spent = Math.max(40, Math.round(player.journal.ts - begin));
  await c.finish(spent);
  player.journal.add("iteration.finished", { id: name, n, model_ms: 1_380, sandbox_ms: spent }, place(root));
}

/** A turn that a dead process left. */
export async function broken(player) {
  player.journal.add("memory.changed", {
    block: "person",
    before: null,
    after: "Works in procurement. Wants dates as ISO and amounts in US dollars.",
    who: "person",
  });
  const first = openAudit(player);
  await think(player, first.root, THOUGHT);
  await iteration(player, first.t, first.root, 1, {
    response: "Ask each piece.",
    code: PLAN,
    output: [],
    status: "lost",
    inside: (c) => children(player, first.t, first.root, c, { to: 7, dying: true }),
  });
  for (const run of [...first.t.opened].reverse()) endRun(player, first.t, run, { status: "interrupted" });
  closeTurn(player, first.t, { status: "interrupted" });
  return first.t.turn;
}

/** A broken-off turn, and the turn that went on from it with artifacts, memory and thoughts. */
export async function renewals(player) {
  const turn = await broken(player);
  player.journal.ts += 95_000;
  await goOn(player, player.journal.sid, turn, "resume", 6);
}

/** The turn `from` of the session `sid` once more: `replayed` of the children come from the journal. */
export async function goOn(player, sid, from, kind, replayed, more = {}) {
  const { t, root } = openAudit(player, {
    origin: { kind, session: sid, turn: from },
    ...more,
  });
  await think(player, root, THOUGHT, 4);
  const known = replayed > 0 ? { replayed: true } : {};
  await tool(player, root, "list_contexts", "{}", {
    result: "contracts (tree, 48 files), rates.csv",
    ...known,
  });
  await iteration(player, t, root, 1, {
    response: "Ask each piece.",
    code: PLAN,
    marks: known,
    output: [["stdout", "17 of 48 renew by themselves\n"]],
    changed: [
      {
        name: "found",
        type: "list",
        preview: "[Answer(renews=True, clause='This agreement …'), …]",
        size: 12,
      },
      { name: "rows", type: "list", preview: "[Answer(renews=True, …), …]", size: 17 },
    ],
    inside: (c) => children(player, t, root, c, { replayed, again: kind === "replay" }),
  });
  await think(
    player,
    root,
    "17 rows. The amounts are in rates.csv; I join on the contract number and write a table, a report and a chart.",
    4,
  );
  await iteration(player, t, root, 2, {
    response: "Join and save.",
    code: SAVE,
    marks: kind === "replay" ? known : {},
    output: [["stdout", "saved renewals.csv, report.md, yearly.svg\n"]],
    inside: async (c) => {
      read(player, root, RATES, [[0, 121_000]]);
      publish(player, root, "renewals.csv", "text/csv", CSV, 1, c);
      publish(player, root, "report.md", "text/markdown", `${REPORT.slice(0, 120)}`, 1, c);
      publish(player, root, "report.md", "text/markdown", REPORT, 2, c);
      publish(player, root, "yearly.svg", "image/svg+xml", CHART, 1, c);
      publish(player, root, "renewals.html", "text/html", HTML, 1, c);
      publish(player, root, "totals.json", "application/json", JSON_TEXT, 1, c);
    },
  });
  const before = player.journal.events.findLast(
    (e) => e.type === "memory.changed" && e.data.block === "findings",
  );
  remember(
    player,
    root,
    "findings",
    before?.data.after ?? null,
    "17 of 48 contracts renew by themselves. Next notice: Northwind, 2026-12-02.",
  );
  const answer = REPORT.replace(/^# .*\n\n/, "");
  await say(player, t, root, answer, 4);
  endRun(player, t, root, { output: answer });
  closeTurn(player, t, { answer });
}

/** The choices of runtime/policy.py. */
const POLICY = ["allow once", "allow for this turn", "deny"];

/** Waits for a person twice: may a host be read, and what counts as soon. Goes on with the answers. */
export async function asking(player) {
  const { t, root } = openAudit(player, {
    question: "Compare our renewal terms with the ones the suppliers publish.",
  });
  await think(
    player,
    root,
    "The published terms are on the suppliers' pages. Reading them needs a host that the policy does not allow by itself.",
    4,
  );
  await tool(player, root, "list_contexts", "{}", { result: "contracts (tree, 48 files), rates.csv" });
  const c = await cell(player, root, {
    iteration: 1,
    code: 'terms = rlm_query_batched("Quote the renewal terms.", contexts=parts)\nsoon = ask_user("Which notice periods count as soon?")',
    ms: 90,
  });
  const run = startRun(player, t, root, {
    kind: "rlm",
    task: "Sort the contracts by what counts as soon.",
    contexts: [CONTRACTS],
    chars: 190_000,
    site: { cell: c.name, function: "rlm_query", index: 0, of: 1 },
  });
  sandbox(player, run);
  await call(player, t, run, {
    prompt: "Sort.",
    response: "ask_user(...)",
    ms: 300,
    tokens: [900, 40],
    cost: 0.001,
  });
  const host = ask(player, root, {
    kind: "host",
    question: "May something be fetched from terms.northwind.example?",
    choices: POLICY,
    detail:
      "GET https://terms.northwind.example/hosting/renewal\n\nasked by the tool web_fetch; the host is not on the list of settings.",
    otherwise: "deny",
    seconds: 540,
  });
  const soon = ask(player, run, {
    question: "Which notice periods count as soon?",
    choices: ["30 days", "60 days", "90 days"],
    otherwise: "60 days",
    seconds: 840,
  });
  const [may, days] = await Promise.all([host, soon]);
  endRun(player, t, run, { output: days });
  await c.finish();
  const note = await ask(player, root, {
    question: "Anything the report should leave out?",
    otherwise: "nothing",
  });
  const answer = `The host was ${may !== "deny" ? "read" : "left out"}; everything due within **${days}** counts as soon. Left out: ${note}.`;
  await say(player, t, root, answer, 4);
  endRun(player, t, root, { output: answer });
  closeTurn(player, t, { answer });
}

/** At its limit, waiting for the person to raise it or to take what there is. */
export async function atLimit(player) {
  const { t, root } = openAudit(player, {
    question: "Read every contract in full and list all obligations.",
    limits: { calls: 14, cost_usd: 0.06, wall_s: 900, sandboxes: 32 },
  });
  const c = await cell(player, root, { iteration: 1, code: PLAN, ms: 900 });
  await children(player, t, root, c.name, { to: 12 });
  for (const unit of ["calls", "cost"])
    player.journal.add("budget.warned", { unit, fraction: 0.7 }, { turn: t.turn });
  const answer = await ask(player, root, {
    kind: "limit",
    unit: "calls",
    question:
      "The limit of 14 model calls is reached. Raise it to 28 and go on, or finish with what there is?",
    choices: ["raise", "finish"],
    otherwise: "finish",
    seconds: 1_200,
  });
  await c.finish();
  const text =
    answer === "raise"
      ? "All 48 contracts were read: 611 obligations."
      : "Partial answer: 12 of 48 contracts were read, with 154 obligations.";
  await say(player, t, root, text, 4);
  endRun(player, t, root, { status: answer === "raise" ? "ok" : "limit", output: text });
  closeTurn(
    player,
    t,
    answer === "raise" ? { answer: text } : { status: "limit", limit: "calls", answer: text },
  );
}

/** A play that stops where it waits for a person; it goes on when the answer comes. */
export function waiting(sid, title, ago, play) {
  const journal = new Journal(sid, title, Date.now() - ago);
  const player = new Player(journal, false);
  const done = play(player).catch(() => {
    for (const run of [...player.turn.opened].reverse())
      endRun(player, player.turn, run, { status: "cancelled" });
    closeTurn(player, player.turn, { status: "cancelled" });
  });
  return { journal, player, done };
}

export { HOUR };
