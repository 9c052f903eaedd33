import type { ErrorBody } from "@/api/types";
import type { FleetEvent } from "@/generated/events";
import type { Ack, Command, ControlFrame } from "@/transport/frames";
import { uuid7 } from "@/transport/ids";
import { Outbox } from "@/transport/outbox";
import { Socket } from "@/transport/socket";
import { reduce } from "./reducer";
import { activeTurn } from "./select";
import { fromSnapshot } from "./snapshot";
import { emptyWorkbench, type Workbench } from "./state";
import { useWorkspace } from "./store";

const GAP_MS = 200;
/** While older events are replayed nobody reads along: they are drawn in large steps. */
const REPLAY_MS = 250;
const KEPT_SESSIONS = 8;

function refusal(error: ErrorBody | undefined): string {
  return [error?.message ?? "The server refused this.", error?.hint].filter(Boolean).join(" ");
}

/**
 * The page's one live connection: the session on screen, its cursor and the outbox.
 * Events are collected and reduced once per frame; a component never renders per delta.
 */
export class Live {
  private readonly socket: Socket;
  private readonly outbox: Outbox;
  private readonly kept = new Map<string, Workbench>();
  private sid: string | null = null;
  private queue: FleetEvent[] = [];
  private scheduled = false;
  private gap: ReturnType<typeof setTimeout> | null = null;
  private readonly asked = new Map<string, (ack: Ack) => void>();
  onSessionsChanged: () => void = () => {};
  onConnected: () => void = () => {};
  onDisconnected: () => void = () => {};

  constructor(url: string, storage: Storage | null, create?: (url: string) => WebSocket) {
    this.outbox = new Outbox((outbox) => useWorkspace.setState({ outbox }), storage);
    this.socket = new Socket({
      url,
      client: `web/${__APP_VERSION__}`,
      tab: uuid7(),
      ...(create ? { create } : {}),
      listener: {
        onState: (connection, retryAt) => useWorkspace.setState({ connection, retryAt }),
        onReady: () => {
          this.subscribe();
          this.onConnected();
        },
        onEvents: (events) => this.receive(events),
        onControl: (frame) => this.control(frame),
        onClosed: (code) => this.closed(code),
      },
    });
  }

  start(): void {
    this.socket.start();
  }

  stop(): void {
    this.socket.stop();
  }

  nudge(): void {
    this.socket.nudge();
  }

  /** The session on screen. */
  get session(): string | null {
    return this.sid;
  }

  /** Show another session (null: none). What is known of it stays, so going back is instant. */
  show(sid: string | null): void {
    if (sid === this.sid) return;
    if (this.sid) {
      this.flush();
      this.keep();
      this.socket.send({ type: "unsubscribe", sid: this.sid });
    }
    this.sid = sid;
    this.queue = [];
    const bench = sid ? (this.kept.get(sid) ?? emptyWorkbench(sid)) : null;
    useWorkspace.setState({ bench, caughtUp: false, replay: null, missing: null });
    this.subscribe();
  }

  /** Send, now or when the server answers again. The promise is of its answer; a reload forgets the promise only. */
  command(sid: string, command: Command): Promise<Ack> {
    const { id } = this.outbox.add(sid, command);
    const answer = new Promise<Ack>((resolve) => this.asked.set(id, resolve));
    if (useWorkspace.getState().caughtUp && sid === this.sid) this.sendWaiting();
    return answer;
  }

  retry(id: string): void {
    this.outbox.retry(id);
    this.sendWaiting();
  }

  dismiss(id: string): void {
    this.outbox.drop(id);
  }

  private subscribe(): void {
    if (!this.sid || !this.socket.open || useWorkspace.getState().missing === this.sid) return;
    const bench = useWorkspace.getState().bench;
    this.queue = [];
    useWorkspace.setState({ caughtUp: false });
    this.socket.send({
      type: "subscribe",
      sid: this.sid,
      after: bench?.seq ?? 0,
      epoch: bench?.epoch || null,
      detail: "full",
    });
  }

  private receive(events: FleetEvent[]): void {
    for (const event of events) if (event.sid === this.sid) this.queue.push(event);
    this.schedule();
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    const run = () => {
      this.scheduled = false;
      this.flush();
    };
    if (!useWorkspace.getState().caughtUp) setTimeout(run, REPLAY_MS);
    else if (document.visibilityState === "hidden") setTimeout(run, 100);
    else requestAnimationFrame(run);
  }

  private flush(): void {
    const before = useWorkspace.getState().bench;
    if (!before || !this.queue.length) return;
    const bench = reduce(before, this.queue);
    this.queue = this.queue.filter((event) => event.seq > bench.seq);
    if (this.queue.length) this.awaitGap();
    else if (this.gap) {
      clearTimeout(this.gap);
      this.gap = null;
    }
    if (bench === before) return;
    useWorkspace.setState({ bench, lastSeen: Date.now() });
    this.outbox.confirm(bench.sid, Object.values(bench.turns));
    if (useWorkspace.getState().caughtUp && activeTurn(before) && !activeTurn(bench)) this.sendWaiting();
  }

  /** A hole in the sequence may close by itself; after 200 ms the suffix is asked for again. */
  private awaitGap(): void {
    this.gap ??= setTimeout(() => {
      this.gap = null;
      this.flush();
      if (this.queue.length) this.subscribe();
    }, GAP_MS);
  }

  private control(frame: ControlFrame): void {
    switch (frame.type) {
      case "subscribed":
        if (frame.sid !== this.sid) return;
        useWorkspace.setState({
          replay: frame.head >= frame.from ? { from: frame.from, head: frame.head } : null,
        });
        break;
      case "snapshot":
        if (frame.sid !== this.sid) return;
        this.queue = this.queue.filter((event) => event.seq > frame.seq);
        useWorkspace.setState({ bench: fromSnapshot(frame) });
        break;
      case "caught_up":
        if (frame.sid !== undefined && frame.sid !== this.sid) return;
        this.flush();
        useWorkspace.setState({ caughtUp: true, replay: null, lastSeen: Date.now() });
        this.sendWaiting();
        break;
      case "ack":
        this.outbox.acknowledge(frame.id, frame);
        this.confirmKnown();
        this.asked.get(frame.id)?.(frame);
        this.asked.delete(frame.id);
        if (!frame.ok) useWorkspace.setState({ notice: refusal(frame.error) });
        break;
      case "sessions.changed":
        this.onSessionsChanged();
        break;
      case "error":
        if (frame.sid !== undefined && frame.sid !== this.sid) return;
        if (frame.code === "not_found" || frame.code === "unknown_session") {
          useWorkspace.setState({ missing: this.sid });
        } else useWorkspace.setState({ notice: frame.message });
        break;
      default:
        break;
    }
  }

  private confirmKnown(): void {
    const bench = useWorkspace.getState().bench;
    if (bench) this.outbox.confirm(bench.sid, Object.values(bench.turns));
  }

  private sendWaiting(): void {
    if (!this.sid) return;
    for (const item of this.outbox.waiting(this.sid)) {
      if (item.op === "turn.start" && this.busy()) continue;
      this.transmit(item);
      if (item.op === "turn.start") return;
    }
  }

  /** A session answers one question at a time: the next one waits here until the turn has ended. */
  private busy(): boolean {
    const { bench, outbox } = useWorkspace.getState();
    return (
      activeTurn(bench) !== null || outbox.some((item) => item.sid === this.sid && item.state === "sent")
    );
  }

  private transmit(item: { id: string; sid: string; op: string; args: object }): void {
    this.socket.send({ type: "cmd", id: item.id, sid: item.sid, op: item.op, args: item.args });
  }

  private closed(code: number): void {
    this.onDisconnected();
    useWorkspace.setState({ caughtUp: false });
    if (code === 4404) useWorkspace.setState({ missing: this.sid });
    if (code === 4409 && this.sid) useWorkspace.setState({ bench: emptyWorkbench(this.sid) });
  }

  private keep(): void {
    const bench = useWorkspace.getState().bench;
    if (!bench?.seq) return;
    this.kept.delete(bench.sid);
    this.kept.set(bench.sid, bench);
    for (const sid of this.kept.keys()) {
      if (this.kept.size <= KEPT_SESSIONS) break;
      this.kept.delete(sid);
    }
  }
}
