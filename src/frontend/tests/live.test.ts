import { afterEach, beforeEach, describe, expect, it } from "vitest";
import WebSocketClient from "ws";
import { type FakeServer, startServer } from "../dev/server.mjs";
import type { FleetEvent } from "../src/generated/events";
import { Live } from "../src/workspace/live";
import { reduce } from "../src/workspace/reducer";
import { emptyWorkbench } from "../src/workspace/state";
import { useWorkspace } from "../src/workspace/store";

class MemoryStorage {
  private readonly values = new Map<string, string>();
  readonly length = 0;
  getItem = (key: string) => this.values.get(key) ?? null;
  setItem = (key: string, value: string) => void this.values.set(key, value);
  removeItem = (key: string) => void this.values.delete(key);
  clear = () => this.values.clear();
  key = () => null;
}

async function until(what: () => boolean, ms = 15_000): Promise<void> {
  const end = Date.now() + ms;
  while (!what()) {
    if (Date.now() > end) throw new Error("it did not happen");
    await new Promise((done) => setTimeout(done, 10));
  }
}

const bench = () => useWorkspace.getState().bench;
const lastTurn = () => bench()?.turns[bench()?.turn_order.at(-1) ?? ""];

describe("live connection, over a real socket", () => {
  let server: FakeServer;
  let live: Live;
  let storage: Storage;
  const url = () => `${server.url.replace("http", "ws")}/api/v1/ws`;
  const open = () =>
    new Live(url(), storage, (address) => new WebSocketClient(address) as unknown as WebSocket);

  beforeEach(async () => {
    useWorkspace.setState({ bench: null, outbox: [], caughtUp: false, missing: null, notice: null });
    server = await startServer({ speed: 8 });
    storage = new MemoryStorage() as Storage;
    live = open();
    live.start();
  });

  afterEach(async () => {
    live.stop();
    await server.close();
  });

  const journal = (sid: string) => server.state.journals.get(sid)?.events as FleetEvent[];
  const start = (question = "Where?") =>
    live.command("ses_failed", { op: "turn.start", args: { question, mode: "rlm", contexts: [] } });

  it("replays a session and then says that it is up to date", async () => {
    live.show("ses_asyncio");
    await until(() => useWorkspace.getState().caughtUp);
    expect(bench()).toEqual(reduce(emptyWorkbench("ses_asyncio"), journal("ses_asyncio")));
  });

  it("loses and doubles nothing when the socket dies again and again during a turn", async () => {
    server.state.dropEvery = 60;
    live.show("ses_failed");
    start();
    await until(() => lastTurn()?.question === "Where?" && lastTurn()?.status === "ok", 25_000);
    expect(bench()).toEqual(reduce(emptyWorkbench("ses_failed"), journal("ses_failed")));
    expect(journal("ses_failed").filter((event) => event.type === "turn.accepted")).toHaveLength(2);
    expect(useWorkspace.getState().outbox).toEqual([]);
  });

  it("keeps a question that was asked without a connection, also over a reload, and sends it once", async () => {
    live.stop();
    live.show("ses_failed");
    start("Kept?");
    expect(useWorkspace.getState().outbox).toHaveLength(1);
    live = open();
    live.start();
    live.show("ses_failed");
    await until(() => lastTurn()?.question === "Kept?");
    await until(() => useWorkspace.getState().outbox.length === 0);
    expect(journal("ses_failed").filter((event) => event.type === "turn.accepted")).toHaveLength(2);
  });

  it("queues a question while a turn runs and sends it when that ends", async () => {
    live.show("ses_failed");
    start("First?");
    await until(() => lastTurn()?.question === "First?");
    start("Second?");
    await until(() => lastTurn()?.question === "Second?", 25_000);
    const turns = Object.values(bench()?.turns ?? {});
    expect(turns.find((turn) => turn.question === "First?")?.status).toBe("ok");
  });

  it("stops a turn", async () => {
    live.show("ses_failed");
    start();
    await until(() => (lastTurn()?.runs.length ?? 0) > 2);
    live.command("ses_failed", { op: "turn.cancel", args: { turn: lastTurn()?.id ?? "" } });
    await until(() => lastTurn()?.status === "cancelled");
    for (const run of lastTurn()?.runs ?? []) expect(bench()?.runs[run]?.status).not.toBe("running");
  });

  it("says that a session does not exist", async () => {
    live.show("ses_unknown");
    await until(() => useWorkspace.getState().missing === "ses_unknown");
  });
});
