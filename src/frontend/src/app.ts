import { QueryClient } from "@tanstack/react-query";
import { Live } from "@/workspace/live";

/** The page's single instances: the query cache and the live connection. */
export const queries = new QueryClient({
  defaultOptions: { queries: { retry: 1, staleTime: 10_000, refetchOnWindowFocus: false } },
});

function socketUrl(): string {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  return `${scheme}://${location.host}/api/v1/ws`;
}

export const live = new Live(socketUrl(), typeof sessionStorage === "undefined" ? null : sessionStorage);

live.onSessionsChanged = () => {
  void queries.invalidateQueries({ queryKey: ["sessions"] });
  void queries.invalidateQueries({ queryKey: ["status"] });
};
// A refused socket does not tell a browser why; a plain request does (signed out, or not there at all).
live.onDisconnected = () => void queries.invalidateQueries({ queryKey: ["status"] });
live.onConnected = () => void queries.invalidateQueries();
