import { clsx } from "clsx";
import { ChevronsDownUp, ChevronsUpDown, Search } from "lucide-react";
import { IconButton } from "@/ui/Button";
import { number } from "@/workspace/format";
import type { Filter } from "./useRows";

interface ToolbarProps {
  query: string;
  onQuery: (query: string) => void;
  onNext: (step: 1 | -1) => void;
  filter: Filter;
  onFilter: (filter: Filter) => void;
  counts: { running: number; failed: number };
  hits: number | null;
  onExpand: (all: boolean) => void;
}

export function Toolbar(props: ToolbarProps) {
  const chip = (name: Filter, label: string, count: number) =>
    (count > 0 || props.filter === name) && (
      <button
        type="button"
        aria-pressed={props.filter === name}
        onClick={() => props.onFilter(props.filter === name ? "all" : name)}
        className={clsx(
          "h-6 shrink-0 rounded-md border px-1.5 text-2xs whitespace-nowrap tabular pointer-coarse:h-10",
          props.filter === name
            ? "border-accent bg-accent-soft text-accent"
            : "border-line text-muted hover:bg-sunken",
        )}
      >
        {number(count)} {label}
      </button>
    );
  return (
    <div className="flex h-9 shrink-0 pointer-coarse:h-12 items-center gap-1.5 border-b bg-panel px-2">
      <label className="flex h-6 min-w-0 flex-1 items-center gap-1.5 rounded-md bg-sunken px-2 focus-within:outline-2 focus-within:outline-accent pointer-coarse:h-10">
        <Search size={12} className="shrink-0 text-muted" aria-hidden="true" />
        <span className="sr-only">Search the runs</span>
        <input
          className="w-full min-w-0 bg-transparent text-xs outline-none"
          placeholder="Search runs"
          value={props.query}
          onChange={(event) => props.onQuery(event.target.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter") props.onNext(event.shiftKey ? -1 : 1);
            if (event.key === "Escape") props.onQuery("");
          }}
        />
        {props.hits !== null && (
          <span className="shrink-0 text-2xs text-muted tabular">{number(props.hits)} found</span>
        )}
      </label>
      {chip("running", "running", props.counts.running)}
      {chip("failed", "failed", props.counts.failed)}
      <IconButton label="Expand all runs" className="size-6" onClick={() => props.onExpand(true)}>
        <ChevronsUpDown size={14} aria-hidden="true" />
      </IconButton>
      <IconButton label="Collapse all runs" className="size-6" onClick={() => props.onExpand(false)}>
        <ChevronsDownUp size={14} aria-hidden="true" />
      </IconButton>
    </div>
  );
}
