import { useNavigate } from "@tanstack/react-router";
import { Plus } from "lucide-react";
import { useMemo } from "react";
import { explain } from "@/api/client";
import { useSessions } from "@/api/queries";
import type { SessionRow } from "@/api/types";
import { Button } from "@/ui/Button";
import { useNow } from "@/ui/useNow";
import { period } from "@/workspace/format";
import { SessionItem } from "./SessionItem";
import { useUi } from "./ui";

export function SessionList() {
  const { data, error, isPending } = useSessions();
  const leaving = useUi((state) => state.leaving);
  const now = useNow(true, 60_000);
  const navigate = useNavigate();
  const groups = useMemo(() => {
    const out = new Map<string, SessionRow[]>();
    for (const row of data ?? []) {
      if (leaving.includes(row.id)) continue;
      const name = period(row.updated_ms, now);
      out.set(name, [...(out.get(name) ?? []), row]);
    }
    return [...out];
  }, [data, leaving, now]);
  return (
    <aside
      aria-label="Sessions"
      data-chrome
      className="flex h-full w-[260px] shrink-0 flex-col border-r bg-panel max-sm:w-full max-sm:border-r-0"
    >
      <div className="flex h-10 shrink-0 items-center justify-between border-b pr-2 pl-3">
        <h2 className="text-sm font-semibold">Sessions</h2>
        <Button
          look="quiet"
          className="h-7 px-2"
          icon={<Plus size={14} aria-hidden="true" />}
          onClick={() => void navigate({ to: "/" })}
        >
          New
        </Button>
      </div>
      <div className="min-h-0 flex-1 overflow-y-auto p-1.5">
        {error && <p className="p-2 text-xs text-muted">{explain(error).message}</p>}
        {isPending && <Skeleton />}
        {data && groups.length === 0 && (
          <p className="p-2 text-xs text-muted">No sessions yet. Your first question makes one.</p>
        )}
        {groups.map(([name, rows]) => (
          <section key={name} aria-label={name} className="mb-2">
            <h3 className="px-2 py-1 text-2xs font-medium text-muted">{name}</h3>
            <ul>
              {rows.map((row) => (
                <SessionItem key={row.id} row={row} now={now} />
              ))}
            </ul>
          </section>
        ))}
      </div>
    </aside>
  );
}

function Skeleton() {
  return (
    <div className="space-y-2 p-2" aria-hidden="true">
      {[70, 55, 80].map((width) => (
        <div key={width} className="h-8 rounded-md bg-sunken" style={{ width: `${width}%` }} />
      ))}
    </div>
  );
}
