"""The connections to MCP servers, kept over turns. Other settings get other ones; none ends under a running turn."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from fleet_rlm.integrations.mcp.client import McpClients
from fleet_rlm.integrations.mcp.servers import McpServer


class KeptClients:
    """Thread-safe. `connect_s`: how long a connection may take."""

    def __init__(self, connect_s: float) -> None:
        self._connect_s = connect_s
        self._lock = threading.Lock()
        self._newest = McpClients(())
        self._users: Counter[McpClients] = Counter()

    @contextmanager
    def using(self, servers: Sequence[McpServer]) -> Generator[McpClients]:
        """The connections to these servers for a turn; former ones end with the last turn that uses them."""
        with self._lock:
            former = self._newest
            if tuple(former.servers) != tuple(servers):
                self._newest = McpClients(servers, connect_s=self._connect_s)
            clients = self._newest
            self._users[clients] += 1
            unused = former is not clients and not self._users[former]
        if unused:
            former.close()
        try:
            yield clients
        finally:
            with self._lock:
                self._users[clients] -= 1
                idle = not self._users[clients]
                if idle:
                    del self._users[clients]
                over = idle and clients is not self._newest
            if over:
                clients.close()

    def close(self) -> None:
        """End all of them."""
        with self._lock:
            every = {self._newest, *self._users}
        for clients in every:
            clients.close()
