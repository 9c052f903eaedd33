// The plays of the fake server: a search over a source tree, a wide one with 5,000 runs, failures and limits.
import {
  ASYNCIO,
  call,
  cell,
  closeTurn,
  endRun,
  id,
  Journal,
  openTurn,
  Player,
  sandbox,
  say,
  startRun,
} from "./journal.mjs";

const QUESTION =
  "Where does asyncio decide that a timed-out operation raises TimeoutError, and which code path cancels the inner task?";

const FILES = [
  ["asyncio/timeouts.py", 2_114],
  ["asyncio/tasks.py", 11_832],
  ["asyncio/base_events.py", 78_210],
  ["asyncio/events.py", 29_334],
  ["asyncio/locks.py", 20_115],
  ["asyncio/streams.py", 27_619],
  ["asyncio/queues.py", 10_163],
  ["asyncio/runners.py", 7_159],
  ["asyncio/taskgroups.py", 9_821],
  ["asyncio/futures.py", 14_323],
  ["asyncio/sslproto.py", 31_739],
  ["asyncio/unix_events.py", 53_004],
];

const ANSWER = `The decision is made in the \`timeout\` context manager, not in \`wait_for\` itself.

1. **Arming.** \`Timeout.reschedule\` asks the loop to call \`_on_timeout\` at the deadline (asyncio/timeouts.py:71).
2. **Cancelling.** When the deadline passes, \`_on_timeout\` cancels the task and moves to the state *expiring* (asyncio/timeouts.py:141).
3. **Deciding.** \`__aexit__\` checks whether the pending cancellation is its own: only if \`task.uncancel()\` falls back to the count seen on entry does it raise \`TimeoutError\` from the \`CancelledError\` (asyncio/timeouts.py:109).

\`wait_for\` is a thin wrapper: it opens the same context manager around the awaited future (asyncio/tasks.py:506).

| step | function | place |
|---|---|---|
| arm | \`reschedule\` | asyncio/timeouts.py:71 |
| cancel | \`_on_timeout\` | asyncio/timeouts.py:141 |
| raise | \`__aexit__\` | asyncio/timeouts.py:109 |

*Found by a search program, no AI model: the passages are quoted, the wording between them is fixed.*`;

const PLACES = [
  ["asyncio/timeouts.py", 71, "self._timeout_handler = loop.call_at(when, self._on_timeout)"],
  ["asyncio/timeouts.py", 141, "self._task.cancel()"],
  ["asyncio/timeouts.py", 109, "raise TimeoutError from exc_val"],
  ["asyncio/tasks.py", 506, "async with timeouts.timeout(timeout):"],
];

export const citations = PLACES.map(([path, line, quote]) => ({
  context: ASYNCIO.sha256,
  path,
  line,
  start: 0,
  end: quote.length,
  quote,
}));

const PLAN = `info = context_info()
parts = chunks(context, size=100_000, overlap=400)
print(f"{info['files']} files, {info['chars']:,} characters, {len(parts)} pieces")
for part in parts[:4]:
    print(" ", part.path, f"{part.chars:,}")`;

const FAN = `found = rlm_query_batched(
    "Quote the lines that decide between TimeoutError and CancelledError.",
    contexts=parts,
    schema="list[dict]",
)
hits = [h for piece in found if piece for h in piece]
hits.sort(key=lambda h: -h["score"])
print(f"{len(hits)} passages from {sum(bool(p) for p in found)} pieces")
for h in hits[:6]:
    print(f"{h['score']:.2f}  {h['path']}:{h['line']}  {h['text'][:56]}")`;

const MERGE = `best = hits[:4]
SUBMIT(answer=write_answer(best))`;

const FAN_OUT = `17 passages from 12 pieces
9.41  asyncio/timeouts.py:109  raise TimeoutError from exc_val
8.87  asyncio/timeouts.py:141  self._task.cancel()
7.90  asyncio/tasks.py:506  async with timeouts.timeout(timeout):
7.12  asyncio/timeouts.py:71  self._timeout_handler = loop.call_at(when,
4.55  asyncio/taskgroups.py:152  self._parent_task.uncancel()
3.98  asyncio/locks.py:283  except exceptions.CancelledError:
`;

async function child(player, t, root, site, [path, chars], delay) {
  const run = startRun(player, t, root, {
    kind: "rlm",
    task: `Quote the lines of ${path} that decide between TimeoutError and CancelledError.`,
    chars,
    site,
    max_iterations: 6,
  });
  sandbox(player, run, 24 + (delay % 17));
  await player.wait(30 + (delay % 90));
  const at = { turn: run.turn, run: run.run, parent: run.parent, depth: run.depth };
  for (let n = 1; n <= 2; n += 1) {
    const name = id("it");
    player.journal.add("iteration.started", { id: name, n, limit: 6 }, at);
    await call(player, t, run, {
      prompt: `Task: quote the deciding lines of ${path}.\ncontext: Slice, ${chars} characters, not shown.`,
      response: n === 1 ? "grep(context, r'TimeoutError|cancel')" : "SUBMIT(hits)",
      ms: 60 + ((delay * 7) % 240),
      tokens: [700 + (delay % 400), 60 + (delay % 50)],
    });
    const c = await cell(
      player,
      run,
      n === 1
        ? {
            iteration: n,
            code: `hits = []\nfor m in grep(r"TimeoutError|CancelledError|\\.cancel\\(", context):\n    hits.append({"path": m.path, "line": m.line, "text": m.text.strip(), "score": rank(m)})\nprint(len(hits), "lines")`,
            output: [["stdout", `${3 + (delay % 9)} lines\n`]],
            ms: 12,
            changed: [
              { name: "hits", type: "list", preview: `[{'path': '${path}', …}]`, size: 3 + (delay % 9) },
            ],
          }
        : {
            iteration: n,
            code: "SUBMIT(answer=hits[:3])",
            ms: 2,
            status: "submitted",
            value: "[{'line': 109, …}]",
          },
    );
    await c.finish();
    player.journal.add("iteration.finished", { id: name, n, model_ms: 90, sandbox_ms: 12 }, at);
  }
  endRun(player, t, run, { output: `3 passages in ${path}` });
  return run;
}

/** The search over a source tree that the README shows: one root, twelve children, three cells, an answer with places. */
export async function search(player, ask = {}) {
  const t = openTurn(player, {
    question: QUESTION,
    contexts: [ASYNCIO],
    limits: { calls: 200, wall_s: 120, depth: 2, sandboxes: 64 },
    ...ask,
  });
  player.turn = t;
  const root = startRun(player, t, null, {
    kind: "rlm",
    task: t.accepted.data.question,
    contexts: [ASYNCIO],
    chars: ASYNCIO.chars,
  });
  sandbox(player, root, 41);
  const at = { turn: t.turn, run: root.run, depth: 0 };
  const steps = [
    {
      code: PLAN,
      response: "Look at the size first.",
      output: [
        [
          "stdout",
          "34 files, 1,184,220 characters, 12 pieces\n  asyncio/timeouts.py 2,114\n  asyncio/tasks.py 11,832\n",
        ],
        ["stderr", "SyntaxWarning: invalid escape sequence '\\s' in asyncio/sslproto.py:212\n"],
      ],
      changed: [
        { name: "info", type: "dict", preview: "{'kind': 'tree', 'files': 34, 'chars': 1184220}", size: 6 },
        { name: "parts", type: "list", preview: "[Slice(timeouts.py, 2114), …]", size: 12 },
      ],
    },
    {
      code: FAN,
      response: "Ask each piece on its own.",
      output: [["stdout", FAN_OUT]],
      shown: 210,
      fan: true,
      changed: [
        {
          name: "found",
          type: "list",
          preview: "[[{'path': 'asyncio/timeouts.py', 'line': 109, …}], …]",
          size: 12,
        },
        {
          name: "hits",
          type: "list",
          preview: "[{'path': 'asyncio/timeouts.py', 'line': 109, 'score': 9.41}, …]",
          size: 17,
        },
      ],
    },
    {
      code: MERGE,
      response: "Merge and submit.",
      status: "submitted",
      value: ANSWER.slice(0, 220),
      changed: [
        { name: "best", type: "list", preview: "[{'path': 'asyncio/timeouts.py', 'line': 109}, …]", size: 4 },
      ],
    },
  ];
  for (const [index, step] of steps.entries()) {
    const n = index + 1;
    const name = id("it");
    player.journal.add("iteration.started", { id: name, n, limit: 8 }, at);
    await call(player, t, root, {
      prompt: `Task: ${t.accepted.data.question}\n\nVariables:\ncontext: tree, 34 files, 1,184,220 characters, never shown\nWrite Python. SUBMIT(answer=...) ends the run.\n\nHistory: ${index} cells`,
      response: step.response,
      ms: 260,
      tokens: [1_240 + 480 * index, 120],
    });
    const c = await cell(player, root, { ...step, iteration: n, ms: step.fan ? 1_640 : 22 });
    if (step.fan) {
      const site = (i) => ({ cell: c.name, function: "rlm_query_batched", index: i, of: FILES.length });
      if (player.live)
        await Promise.all(
          FILES.map(async (file, i) => {
            await player.wait(180 * Math.floor(i / 4) * 4 + 40 * i);
            await child(player, t, root, site(i), file, 37 * i + 11);
          }),
        );
      else await interleaved(player, t, root, site);
    }
    await c.finish(step.fan ? 1_640 : 22);
    player.journal.add(
      "iteration.finished",
      { id: name, n, model_ms: 260, sandbox_ms: step.fan ? 1_640 : 22 },
      at,
    );
  }
  await say(player, t, root, ANSWER);
  endRun(player, t, root, { output: ANSWER });
  closeTurn(player, t, { answer: ANSWER, citations });
}

/** In a recorded play the children must still overlap in time: each starts a little after the one before. */
async function interleaved(player, t, root, site) {
  const begin = player.journal.ts;
  let last = begin;
  for (const [i, file] of FILES.entries()) {
    player.journal.ts = begin + 55 * i;
    await child(player, t, root, site(i), file, 37 * i + 11);
    last = Math.max(last, player.journal.ts);
  }
  player.journal.ts = last + 20;
}

/** 5,000 runs: fan-outs of 120, some failed, some nested, the last ones still running when `open` is set. */
export async function wide(player, { runs = 5_000, open = false } = {}) {
  const t = openTurn(player, {
    question: "Label every record of the corpus and count the labels.",
    model: "openai/gpt-5-mini",
    limits: { calls: 20_000, cost_usd: 5, depth: 2 },
  });
  player.turn = t;
  const root = startRun(player, t, null, { kind: "rlm", task: t.accepted.data.question, chars: 96_000_000 });
  sandbox(player, root);
  let made = 1;
  for (let wave = 0; made < runs; wave += 1) {
    const c = await cell(player, root, {
      iteration: wave + 1,
      code: `labels_${wave} = rlm_query_batched("Label each record.", contexts=parts[${wave * 120}:${wave * 120 + 120}])\nprint(len(labels_${wave}), "pieces labelled")`,
      output: [["stdout", "120 pieces labelled\n"]],
      ms: 4_100,
    });
    const begin = player.journal.ts;
    for (let i = 0; i < 120 && made < runs; i += 1, made += 1) {
      player.journal.ts = begin + 12 * i;
      const run = startRun(player, t, root, {
        kind: "rlm",
        task: `Label records ${made * 40} to ${made * 40 + 39}.`,
        chars: 19_400,
        site: { cell: c.name, function: "rlm_query_batched", index: i, of: 120 },
      });
      const last = open && made > runs - 30;
      if (last) continue;
      await call(player, t, run, {
        prompt: "Label these records.",
        response: "[…]",
        ms: 600 + ((made * 37) % 2_900),
        tokens: [4_800 + (made % 300), 210],
        cost: 0.0007,
      });
      const failed = made % 61 === 0;
      endRun(
        player,
        t,
        run,
        failed
          ? {
              status: "failed",
              error: {
                code: "model_timeout",
                message: "The model did not answer within 60 s.",
                hint: "Raise the time-out or use a smaller piece.",
                retryable: true,
              },
            }
          : { output: "40 labels" },
      );
    }
    await c.finish(4_100);
  }
  if (open) return;
  await say(player, t, root, "Counted **199,960** records in **7** labels.", 0);
  endRun(player, t, root, { output: "{'entity': 31022, …}" });
  closeTurn(player, t, { answer: "Counted **199,960** records in **7** labels." });
}

export async function failing(player) {
  const t = openTurn(player, {
    question: "Summarise the incident report and list its causes.",
    model: "openai/gpt-5-mini",
    mode: "auto",
    limits: { cost_usd: 2, depth: 2 },
  });
  const root = startRun(player, t, null, { kind: "agent", task: t.accepted.data.question, model: t.model });
  sandbox(player, root);
  await call(player, t, root, {
    prompt: "Summarise.",
    response: "",
    ms: 900,
    tokens: [2_100, 90],
    cost: 0.004,
  });
  const c = await cell(player, root, {
    iteration: 1,
    code: "rows = [line.split(';') for line in context.splitlines()]\ntotals = {}\nfor row in rows:\n    totals[row[3]] = totals.get(row[3], 0) + int(row[4])\nprint(totals)",
    status: "error",
    ms: 31,
    output: [["stdout", "reading 1,204 rows\n"]],
    error: {
      name: "IndexError",
      message: "list index out of range",
      line: 4,
      traceback:
        'Traceback (most recent call last):\n  File "<cell>", line 4, in <module>\nIndexError: list index out of range',
    },
  });
  await c.finish();
  const error = {
    code: "model_auth",
    message: "The provider refused the key (401).",
    hint: "Put a valid key under Settings, Models.",
    retryable: false,
  };
  endRun(player, t, root, { status: "failed", error });
  closeTurn(player, t, { status: "failed", error });
}

export async function limited(player) {
  const t = openTurn(player, {
    question: "Compare all 64 quarterly reports.",
    model: "openai/gpt-5-mini",
    mode: "rlm",
    limits: { calls: 20, cost_usd: 1, depth: 2 },
  });
  const root = startRun(player, t, null, { kind: "rlm", task: t.accepted.data.question, chars: 8_400_000 });
  sandbox(player, root);
  for (let i = 0; i < 20; i += 1)
    await call(player, t, root, {
      prompt: `Report ${i}`,
      response: "…",
      ms: 400,
      tokens: [3_000, 200],
      cost: 0.002,
      role: "sub",
    });
  player.journal.add("budget.warned", { unit: "calls", fraction: 0.9 }, { turn: t.turn });
  player.journal.add("budget.exhausted", { unit: "calls" }, { turn: t.turn });
  const answer =
    "Partial answer: 19 of 64 reports were read before the limit of 20 model calls was reached. In those, revenue rose in 14.";
  await say(player, t, root, answer, 0);
  endRun(player, t, root, { status: "limit", output: answer });
  closeTurn(player, t, { status: "limit", limit: "calls", answer });
}

export async function recorded(sid, title, ago, play) {
  const journal = new Journal(sid, title, Date.now() - ago);
  await play(new Player(journal, false));
  return journal;
}
