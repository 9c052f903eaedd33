import type { FleetEvent } from "@/generated/events";
import { backoff } from "./backoff";
import { type ControlFrame, readFrame } from "./frames";

export type ConnectionState = "connecting" | "open" | "reconnecting" | "offline" | "signed_out";

const DIAL_MS = 5_000;
const OFFLINE_AFTER = 4;

export interface SocketListener {
  onState(state: ConnectionState, retryAt: number | null): void;
  /** The socket is greeted: subscribe now. */
  onReady(): void;
  onEvents(events: FleetEvent[]): void;
  onControl(frame: ControlFrame): void;
  onClosed(code: number): void;
}

export interface SocketOptions {
  url: string;
  client: string;
  tab: string;
  listener: SocketListener;
  create?: (url: string) => WebSocket;
}

/** One socket per tab. It dials, greets, watches for silence and dials again; what it carries is the owner's matter. */
export class Socket {
  private ws: WebSocket | null = null;
  private attempt = 0;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private silence: ReturnType<typeof setTimeout> | null = null;
  private heartbeatMs = 15_000;
  private stopped = false;
  private greeted = false;

  constructor(private readonly options: SocketOptions) {}

  get open(): boolean {
    return this.greeted;
  }

  start(): void {
    this.stopped = false;
    this.dial();
  }

  stop(): void {
    this.stopped = true;
    this.clear();
    const ws = this.ws;
    this.ws = null;
    if (ws?.readyState === WebSocket.CONNECTING) ws.onopen = () => ws.close(1000);
    else ws?.close(1000);
  }

  /** Dial at once instead of waiting for the next attempt. */
  nudge(): void {
    if (this.stopped || this.ws) return;
    this.dial();
  }

  send(frame: object): boolean {
    if (!this.greeted || this.ws?.readyState !== WebSocket.OPEN) return false;
    this.ws.send(JSON.stringify(frame));
    return true;
  }

  private dial(): void {
    this.clear();
    this.report(
      this.attempt === 0 ? "connecting" : this.attempt >= OFFLINE_AFTER ? "offline" : "reconnecting",
      null,
    );
    const create = this.options.create ?? ((url: string) => new WebSocket(url));
    const ws = create(this.options.url);
    this.ws = ws;
    this.greeted = false;
    this.timer = setTimeout(() => this.drop(ws), DIAL_MS);
    ws.onopen = () => {
      ws.send(JSON.stringify({ type: "hello", v: 1, client: this.options.client, tab: this.options.tab }));
    };
    ws.onmessage = (message) => this.receive(ws, String(message.data));
    ws.onclose = (event) => this.closed(ws, event.code);
  }

  private receive(ws: WebSocket, text: string): void {
    if (ws !== this.ws) return;
    this.listenForSilence(ws);
    const { events, control } = readFrame(text);
    if (events.length) this.options.listener.onEvents(events);
    if (!control || control.type === "heartbeat") return;
    if (control.type === "welcome") {
      this.heartbeatMs = control.heartbeat_ms || this.heartbeatMs;
      this.attempt = 0;
      this.greeted = true;
      if (this.timer) clearTimeout(this.timer);
      this.report("open", null);
      this.options.listener.onReady();
      return;
    }
    this.options.listener.onControl(control);
  }

  /** Half-open sockets never say that they are dead: silence for two heartbeats means so. */
  private listenForSilence(ws: WebSocket): void {
    if (this.silence) clearTimeout(this.silence);
    this.silence = setTimeout(() => this.drop(ws), this.heartbeatMs * 2);
  }

  private drop(ws: WebSocket): void {
    if (ws !== this.ws) return;
    ws.onclose = null;
    ws.onmessage = null;
    ws.close();
    this.closed(ws, 1006);
  }

  private closed(ws: WebSocket, code: number): void {
    if (ws !== this.ws) return;
    this.ws = null;
    this.greeted = false;
    this.clear();
    this.options.listener.onClosed(code);
    if (this.stopped) return;
    if (code === 4401 || code === 4403) {
      this.report("signed_out", null);
      return;
    }
    const wait = code === 4408 ? 0 : backoff(this.attempt);
    this.attempt += 1;
    this.report(this.attempt >= OFFLINE_AFTER ? "offline" : "reconnecting", Date.now() + wait);
    this.timer = setTimeout(() => this.dial(), wait);
  }

  private report(state: ConnectionState, retryAt: number | null): void {
    this.options.listener.onState(state, retryAt);
  }

  private clear(): void {
    if (this.timer) clearTimeout(this.timer);
    if (this.silence) clearTimeout(this.silence);
    this.timer = null;
    this.silence = null;
  }
}
