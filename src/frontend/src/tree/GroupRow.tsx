import { clsx } from "clsx";
import { ChevronRight } from "lucide-react";
import { memo } from "react";
import { compact, cost, duration, number } from "@/workspace/format";
import { type GroupRow as Group, groupFacts } from "@/workspace/tree";
import { Strip } from "./Strip";

function Fact({ className, children }: { className?: string; children: React.ReactNode }) {
  return <span className={clsx("whitespace-nowrap", className)}>{children}</span>;
}

interface GroupRowProps {
  row: Group;
  width: number;
  focused: boolean;
  onToggle: (id: string, open: boolean) => void;
}

/** More than 25 siblings of one call site: one row with their numbers and a strip of their states. */
export const GroupRow = memo(function GroupRow({ row, width, focused, onToggle }: GroupRowProps) {
  const facts = groupFacts(row.members);
  const indent = row.depth * 14;
  return (
    <div
      id={`run-${row.id}`}
      role="treeitem"
      tabIndex={-1}
      aria-level={row.depth + 1}
      aria-expanded={row.expanded}
      aria-selected={false}
      data-testid="tree-group"
      onClick={() => onToggle(row.id, !row.expanded)}
      onKeyDown={undefined}
      className={clsx(
        "flex h-full cursor-pointer flex-col justify-center gap-1 pr-3 pl-2 text-xs hover:bg-sunken",
        focused && "group-focus-visible/tree:shadow-[inset_0_0_0_2px_var(--accent)]",
      )}
    >
      <span
        className="flex min-w-0 items-center gap-1.5 overflow-hidden tabular"
        style={{ paddingLeft: indent }}
      >
        <ChevronRight
          size={13}
          aria-hidden="true"
          className={clsx("mx-0.5 shrink-0 text-muted", row.expanded && "rotate-90")}
        />
        <span className="min-w-0 shrink truncate font-mono text-2xs">
          {row.name} × {number(facts.total)}
        </span>
        <Fact className="text-ok">{number(facts.ok)} ✓</Fact>
        {facts.failed > 0 && <Fact className="text-err">{number(facts.failed)} ✗ failed</Fact>}
        {facts.running > 0 && <Fact className="text-run">{number(facts.running)} running</Fact>}
        <span className="flex-1" />
        {facts.p50 !== null && <Fact className="text-muted">p50 {duration(facts.p50)}</Fact>}
        {facts.p95 !== null && <Fact className="text-muted">p95 {duration(facts.p95)}</Fact>}
        <Fact className="text-muted">{facts.cost ? cost(facts.cost) : `${compact(facts.tokens)} tok`}</Fact>
      </span>
      <span style={{ paddingLeft: indent + 20 }}>
        <Strip members={row.members} width={Math.max(60, width - indent - 44)} />
      </span>
    </div>
  );
});
