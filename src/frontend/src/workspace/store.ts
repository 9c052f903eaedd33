import { create } from "zustand";
import type { OutboxItem } from "@/transport/outbox";
import type { ConnectionState } from "@/transport/socket";
import type { Workbench } from "./state";

export interface WorkspaceState {
  /** The session on screen; null before the first event of it. */
  bench: Workbench | null;
  connection: ConnectionState;
  retryAt: number | null;
  lastSeen: number | null;
  /** While older events are replayed: how far. */
  replay: { from: number; head: number } | null;
  caughtUp: boolean;
  missing: string | null;
  outbox: OutboxItem[];
  notice: string | null;
}

export const useWorkspace = create<WorkspaceState>(() => ({
  bench: null,
  connection: "connecting",
  retryAt: null,
  lastSeen: null,
  replay: null,
  caughtUp: false,
  missing: null,
  outbox: [],
  notice: null,
}));
