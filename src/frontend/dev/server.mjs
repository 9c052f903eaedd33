// A recorded-log fake of the workspace server: serves the built page and speaks its HTTP and WebSocket protocol.
// Used by tests, by the gates and for screenshots. Start: node dev/server.mjs [--port 8100] [--unconfigured]
import { createReadStream, existsSync, readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";
import { blockOf, obey } from "./commands.mjs";
import { diffOf } from "./diff.mjs";
import { asking, atLimit, broken, FILES, HOUR, renewals, waiting } from "./engine.mjs";
import { id, Journal } from "./journal.mjs";
import { failing, limited, recorded, search, wide } from "./scenarios.mjs";

const DIST = `${join(import.meta.dirname, "../../fleet_rlm/web/dist")}/`;
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2",
};
const CSP =
  "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; connect-src 'self'; frame-src 'self' blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";

function scriptHash() {
  const file = join(DIST, "csp.json");
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")).script : [];
}

export async function startServer({
  port = 0,
  configured = true,
  demo = true,
  speed = 1,
  dropEvery = 0,
} = {}) {
  const state = {
    configured,
    settings: {
      model: configured ? (demo ? "demo/search" : "openai/gpt-5-mini") : null,
      sub_model: null,
      api_base: null,
      key: { set: false, ends: null, source: null },
    },
    journals: new Map(),
    players: new Map(),
    results: new Map(),
    notices: new Set(),
    dropEvery,
  };
  const keep = (journal) => state.journals.set(journal.sid, journal);
  if (configured) {
    keep(await recorded("ses_asyncio", "Where does asyncio raise TimeoutError", 4 * 60_000, search));
    keep(await recorded("ses_wide", "Label every record", 3 * 3_600_000, (p) => wide(p)));
    keep(await recorded("ses_failed", "Incident report", 26 * 3_600_000, failing));
    keep(await recorded("ses_limit", "Quarterly reports", 3 * 86_400_000, limited));
    keep(await recorded("ses_renew", "Contracts that renew", HOUR, renewals));
    keep(await recorded("ses_broken", "Renewals, broken off", 2 * HOUR, broken));
    for (const [sid, title, play] of [
      ["ses_ask", "Supplier terms", asking],
      ["ses_raise", "All obligations", atLimit],
    ]) {
      const { journal, player } = waiting(sid, title, 40_000, play);
      keep(journal);
      state.players.set(sid, player);
    }
    // A play reaches its question within a few turns of the event loop.
    await new Promise((done) => setTimeout(done, 20));
  }
  const http = createServer((req, res) => handle(state, req, res));
  const sockets = new WebSocketServer({ noServer: true });
  http.on("upgrade", (req, socket, head) =>
    sockets.handleUpgrade(req, socket, head, (ws) => talk(state, ws, { speed })),
  );
  await new Promise((done) => http.listen(port, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${http.address().port}`,
    state,
    killSockets: () => drop(sockets),
    close: () =>
      new Promise((done) => {
        drop(sockets);
        http.closeAllConnections();
        http.close(done);
      }),
  };
}

function drop(sockets) {
  for (const ws of sockets.clients) ws.terminate();
}

function row(j) {
  const turns = j.events.filter((e) => e.type === "turn.accepted").length;
  const costs = j.events.filter((e) => e.type === "turn.finished").map((e) => e.data.usage.cost_usd);
  return {
    id: j.sid,
    title: j.title,
    created_ms: Math.round(j.created),
    updated_ms: Math.round(j.ts),
    head: j.head,
    epoch: j.epoch,
    active_turn: j.turn,
    turns,
    cost_usd: costs.reduce((a, b) => a + b, 0),
  };
}

const SUGGESTIONS = [
  {
    model: "ollama_chat/qwen2.5-coder:7b",
    label: "Ollama on this machine: qwen2.5-coder:7b",
    kind: "local",
    api_base: "http://127.0.0.1:11434",
    ready: true,
  },
  {
    model: "demo/search",
    label: "Demo: a search program, no AI model",
    kind: "demo",
    api_base: null,
    ready: true,
  },
];

async function body(req) {
  const parts = [];
  for await (const part of req) parts.push(part);
  return Buffer.concat(parts);
}

async function handle(state, req, res) {
  const url = new URL(req.url, "http://x");
  const path = url.pathname;
  const send = (status, value) => {
    res.writeHead(status, { "content-type": "application/json", "x-request-id": "req_fake" });
    res.end(value === undefined ? "" : JSON.stringify(value));
  };
  const fail = (status, code, message, hint) =>
    send(status, { error: { code, message, hint, request_id: "req_fake" } });
  if (!path.startsWith("/api/")) return asset(req, res, path);
  const parts = path.slice("/api/v1/".length).split("/");
  if (parts[0] === "status") {
    const s = state.settings;
    return send(200, {
      version: "0.1.0",
      provider: "local",
      isolation: "namespaces+seccomp",
      isolation_detail: "user, mount, pid, net, ipc, uts namespaces; seccomp",
      model: s.model,
      model_label: s.model === "demo/search" ? "search program, no AI model" : s.model,
      demo: s.model === "demo/search",
      configured: s.model !== null,
      active_turns: [...state.journals.values()].filter((j) => j.turn).length,
      live_sandboxes: 0,
      limits: { depth: 2, sandboxes: 64 },
      modes: ["auto", "rlm", "direct"],
      warnings: [],
    });
  }
  if (parts[0] === "settings") {
    if (parts[2] === "test") {
      const asked = JSON.parse(await body(req));
      const bad = asked.api_key === "wrong";
      return send(200, {
        ok: !bad,
        steps: [
          { name: "Resolve the address", ok: true, ms: 12, detail: "api.openai.com", fix: null },
          { name: "Connect", ok: true, ms: 48, detail: "TLS 1.3", fix: null },
          {
            name: "Key",
            ok: !bad,
            ms: 121,
            detail: bad ? "401: the provider refused the key" : "accepted",
            fix: bad ? "Copy the key again; it must start with sk-." : null,
          },
          ...(bad
            ? []
            : [
                { name: "Small answer", ok: true, ms: 640, detail: "“ready”, 4 tokens", fix: null },
                { name: "Structured output", ok: true, ms: 702, detail: "schema obeyed", fix: null },
              ]),
        ],
      });
    }
    if (req.method === "PUT") {
      const change = JSON.parse(await body(req));
      const { api_key: key, ...rest } = change;
      Object.assign(state.settings, rest);
      if (key) state.settings.key = { set: true, ends: key.slice(-4), source: "settings" };
    }
    return send(200, {
      ...state.settings,
      sources: { model: state.settings.model ? "settings" : "default" },
      suggestions: SUGGESTIONS,
    });
  }
  if (parts[0] === "sessions") {
    if (parts.length === 1 && req.method === "POST") {
      const { title } = JSON.parse((await body(req)).toString() || "{}");
      const journal = new Journal(id("ses"), title ?? "New session");
      state.journals.set(journal.sid, journal);
      changed(state);
      return send(201, row(journal));
    }
    if (parts.length === 1)
      return send(200, {
        sessions: [...state.journals.values()].map(row).sort((a, b) => b.updated_ms - a.updated_ms),
      });
    const journal = state.journals.get(parts[1]);
    if (journal && parts[2] === "memory") return send(200, memoryOf(journal));
    if (!journal) return fail(404, "not_found", "There is no such session.");
    if (req.method === "PATCH") {
      journal.title = JSON.parse(await body(req)).title;
      journal.add("session.renamed", { title: journal.title });
      changed(state);
      return send(200, row(journal));
    }
    if (req.method === "DELETE") {
      if (journal.turn) return fail(409, "conflict", "A turn is running in this session.", "Stop it first.");
      state.journals.delete(parts[1]);
      changed(state);
      return send(204);
    }
    return send(200, row(journal));
  }
  if (parts[0] === "turns" && parts[2] === "diff") {
    const diff = diffOf(state.journals, parts[1], parts[3]);
    return diff ? send(200, diff) : fail(404, "not_found", "One of these turns does not exist.");
  }
  if (parts[0] === "artifacts") {
    const file = FILES.get(parts[1]);
    if (!file) return fail(404, "not_found", "There is no such artifact.");
    return parts[2] === "view" ? view(req, res, file) : content(res, file);
  }
  if (parts[0] === "contexts" && req.method === "POST") {
    const raw = await body(req);
    const isJson = req.headers["content-type"]?.startsWith("application/json");
    const name = isJson
      ? JSON.parse(raw).name
      : (/name="name"\r\n\r\n([^\r]+)/.exec(raw.subarray(0, 400).toString())?.[1] ?? "upload");
    if (raw.includes("\0"))
      return fail(400, "invalid_input", `${name} is not a text file.`, "Only UTF-8 text can be read.");
    return send(201, {
      name,
      sha256: id("sha").padEnd(64, "0"),
      kind: /filename="[^"]*\//.test(raw.subarray(0, 4000).toString()) ? "tree" : "text",
      bytes: raw.length,
      chars: raw.length,
      lines: raw.toString().split("\n").length,
      files: 1,
    });
  }
  if (parts[2] === "place") {
    const char = Number(url.searchParams.get("char"));
    return send(200, { path: "northwind/hosting.txt", line: 60 + (char % 40) });
  }
  if (parts[2] === "lines") {
    const first = Number(url.searchParams.get("first"));
    const last = Number(url.searchParams.get("last"));
    return send(200, { lines: sourceLines(first, last) });
  }
  if (parts[0] === "blobs") {
    res.writeHead(200, { "content-type": "text/plain; charset=utf-8" });
    return res.end("the whole text of a blob\n".repeat(400));
  }
  return fail(404, "not_found", `No such address: ${path}`);
}

const ABOUT = {
  persona: "who the agent is and how it speaks",
  person: "what the agent knows about you",
  project: "what the work is about",
  findings: "what it has found out",
};

function memoryOf(journal) {
  const names = ["persona", "person", "project", "findings"];
  return {
    limit: 8_000,
    edits: [],
    blocks: names.map((name) => ({
      name,
      text: blockOf(journal, name) ?? "",
      limit: 2_000,
      about: ABOUT[name],
    })),
  };
}

function content(res, file) {
  res.writeHead(200, {
    "content-type": file.kind,
    "content-disposition": `attachment; filename="${file.name}"`,
    "x-content-type-options": "nosniff",
  });
  res.end(file.body);
}

/** Generated pages: inert however they are opened, and never anything but a frame (ui-spec 5.8). */
function view(req, res, file) {
  if (req.headers["sec-fetch-dest"] !== "iframe") return content(res, file);
  res.writeHead(200, {
    "content-type": file.kind,
    "content-security-policy":
      "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:",
    "x-content-type-options": "nosniff",
  });
  res.end(file.body);
}

function sourceLines(first, last) {
  const known = {
    100: "    async def __aexit__(self, exc_type, exc_val, exc_tb):",
    104: "        if self._state is _State.EXPIRING:",
    105: "            self._state = _State.EXPIRED",
    107: "            if self._task.uncancel() <= self._cancelling and exc_type is not None:",
    108: "                # Since there are no new cancel requests, we're handling this.",
    109: "                raise TimeoutError from exc_val",
    71: "            self._timeout_handler = loop.call_at(when, self._on_timeout)",
    141: "        self._task.cancel()",
    506: "    async with timeouts.timeout(timeout):",
  };
  return Array.from(
    { length: last - first + 1 },
    (_, i) => known[first + i] ?? (i % 5 === 0 ? "" : "        # …"),
  );
}

function asset(req, res, path) {
  let file = join(DIST, normalize(path));
  if (!file.startsWith(DIST) || !existsSync(file) || !statSync(file).isFile()) {
    if (path.startsWith("/assets")) {
      res.writeHead(404);
      return res.end();
    }
    file = join(DIST, "index.html");
  }
  const hashes = scriptHash()
    .map((hash) => `'${hash}'`)
    .join(" ");
  const headers = {
    "content-type": TYPES[extname(file)] ?? "application/octet-stream",
    "content-security-policy": `${CSP}; script-src 'self' ${hashes}`,
    "x-content-type-options": "nosniff",
    "cache-control": path.startsWith("/assets") ? "public, max-age=31536000, immutable" : "no-cache",
  };
  const zipped = existsSync(`${file}.gz`) && /gzip/.test(req.headers["accept-encoding"] ?? "");
  res.writeHead(200, zipped ? { ...headers, "content-encoding": "gzip" } : headers);
  createReadStream(zipped ? `${file}.gz` : file).pipe(res);
}

function changed(state) {
  for (const tell of state.notices) tell();
}

function talk(state, ws, { speed }) {
  const send = (frame) => ws.readyState === 1 && ws.send(JSON.stringify(frame));
  let leave = () => {};
  const tell = () => send({ type: "sessions.changed" });
  state.notices.add(tell);
  const beat = setInterval(() => send({ type: "heartbeat", ts: Date.now() }), 5_000);
  ws.on("close", () => {
    clearInterval(beat);
    leave();
    state.notices.delete(tell);
  });
  ws.on("message", (raw) => {
    const frame = JSON.parse(raw);
    if (frame.type === "hello")
      return send({ type: "welcome", epoch: "ep", heartbeat_ms: 5_000, limits: {}, capabilities: [] });
    const journal = state.journals.get(frame.sid);
    if (!journal) return send({ type: "error", code: "not_found", message: "There is no such session." });
    if (frame.type === "subscribe") {
      leave();
      leave = subscribe(state, journal, frame, send, ws);
      return;
    }
    if (frame.type === "cmd") return command(state, journal, frame, send, speed);
  });
}

function subscribe(state, journal, frame, send, ws) {
  const after = frame.epoch === journal.epoch ? frame.after : 0;
  let sent = after;
  let count = 0;
  let queue = [];
  let timer = null;
  send({
    type: "subscribed",
    sid: journal.sid,
    mode: "replay",
    from: after + 1,
    head: journal.head,
    epoch: journal.epoch,
  });
  for (let i = after; i < journal.head; i += 500) {
    const batch = journal.events.slice(i, i + 500);
    send(batch);
    sent = batch.at(-1).seq;
  }
  send({ type: "caught_up", sid: journal.sid, seq: sent });
  const flush = () => {
    timer = null;
    if (queue.length) send(queue);
    count += queue.length;
    queue = [];
    if (state.dropEvery && count > state.dropEvery) {
      count = 0;
      ws.terminate();
    }
  };
  const listen = (event) => {
    queue.push(event);
    timer ??= setTimeout(flush, 30);
  };
  journal.listeners.add(listen);
  return () => {
    journal.listeners.delete(listen);
    clearTimeout(timer);
  };
}

function command(state, journal, frame, send, speed) {
  const key = `${frame.sid}/${frame.id}`;
  if (state.results.has(key)) return send(state.results.get(key));
  const told = obey({ state, journal, frame, speed, changed: () => changed(state) });
  const ack = { type: "ack", id: frame.id, ...told };
  state.results.set(key, ack);
  send(ack);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const flag = (name, fallback) => {
    const at = process.argv.indexOf(name);
    return at < 0 ? fallback : process.argv[at + 1];
  };
  const server = await startServer({
    port: Number(flag("--port", "8100")),
    configured: !process.argv.includes("--unconfigured"),
    speed: Number(flag("--speed", "1")),
  });
  console.log(server.url);
}
