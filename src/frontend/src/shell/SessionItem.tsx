import { Link, useNavigate } from "@tanstack/react-router";
import { Ellipsis, Pencil, Trash2 } from "lucide-react";
import { useState } from "react";
import type { SessionRow } from "@/api/types";
import { IconButton } from "@/ui/Button";
import { Menu } from "@/ui/Menu";
import { StatusIcon } from "@/ui/StatusIcon";
import { cost, plural, relative } from "@/workspace/format";
import { useSession } from "./selection";
import { removeSession, saveTitle } from "./sessions";
import { TitleInput } from "./TitleInput";

export function SessionItem({ row, now }: { row: SessionRow; now: number }) {
  const [editing, setEditing] = useState(false);
  const open = useSession();
  const navigate = useNavigate();
  const remove = () => {
    removeSession(row.id, row.title);
    if (open === row.id) void navigate({ to: "/" });
  };
  if (editing) {
    return (
      <li className="p-1">
        <TitleInput
          title={row.title}
          onDone={(title) => {
            setEditing(false);
            if (title) void saveTitle(row.id, title);
          }}
        />
      </li>
    );
  }
  return (
    <li className="group relative">
      <Link
        to="/s/$sid"
        params={{ sid: row.id }}
        search={{}}
        className="block rounded-md py-1.5 pr-8 pl-2 hover:bg-sunken aria-[current=page]:bg-accent-soft"
        onKeyDown={(event) => {
          if (event.key === "F2") setEditing(true);
        }}
      >
        <span className="flex items-center gap-1.5">
          {row.active_turn && <StatusIcon status="running" size={13} />}
          <span className="truncate text-sm">{row.title || "Untitled"}</span>
        </span>
        <span
          className="block truncate text-2xs text-muted tabular"
          title={new Date(row.updated_ms).toLocaleString()}
        >
          {relative(row.updated_ms, now)}
          {row.turns > 0 && ` · ${plural(row.turns, "turn")}`}
          {row.turns > 0 && row.cost_usd !== null && row.cost_usd > 0 && ` · ${cost(row.cost_usd)}`}
        </span>
      </Link>
      <div className="absolute top-1.5 right-1 opacity-0 group-focus-within:opacity-100 group-hover:opacity-100 has-[[data-state=open]]:opacity-100 pointer-coarse:opacity-100">
        <Menu
          trigger={
            <IconButton label={`Actions for ${row.title || "session"}`}>
              <Ellipsis size={15} aria-hidden="true" />
            </IconButton>
          }
          items={[
            {
              label: "Rename",
              hint: "F2",
              icon: <Pencil size={14} />,
              onSelect: () => setTimeout(() => setEditing(true)),
            },
            { label: "Delete", icon: <Trash2 size={14} />, danger: true, onSelect: remove },
          ]}
        />
      </div>
    </li>
  );
}
