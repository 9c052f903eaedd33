export interface FakeServer {
  url: string;
  state: {
    journals: Map<string, { events: unknown[]; turn: string | null }>;
    dropEvery: number;
  };
  killSockets(): void;
  close(): Promise<void>;
}
export function startServer(options?: {
  port?: number;
  configured?: boolean;
  demo?: boolean;
  speed?: number;
  dropEvery?: number;
}): Promise<FakeServer>;
