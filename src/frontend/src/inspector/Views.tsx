import { clsx } from "clsx";
import { useSelection, type View } from "@/shell/selection";
import { number } from "@/workspace/format";
import type { Workbench } from "@/workspace/state";

const NAMES: [View, string][] = [
  ["tree", "Tree"],
  ["timeline", "Timeline"],
  ["context", "Context"],
  ["artifacts", "Files"],
  ["memory", "Memory"],
];

function countOf(bench: Workbench, view: View): number {
  if (view === "memory") return Object.keys(bench.memory).length;
  if (view !== "artifacts") return 0;
  return new Set(Object.values(bench.artifacts).map((artifact) => artifact.name)).size;
}

/** What the inspector shows; in the URL, so that a link leads to it. */
export function Views({ bench, view }: { bench: Workbench; view: View }) {
  const [, select] = useSelection();
  return (
    <nav
      aria-label="Views of the inspector"
      className="flex h-9 shrink-0 items-center gap-0.5 overflow-x-auto border-b bg-panel px-2 pointer-coarse:h-12"
    >
      {NAMES.map(([name, label]) => {
        const count = countOf(bench, name);
        return (
          <button
            key={name}
            type="button"
            data-testid={`show-${name}`}
            aria-current={view === name ? "true" : undefined}
            className={clsx(
              "h-7 shrink-0 rounded-md px-2 text-xs pointer-coarse:h-10",
              view === name
                ? "bg-accent-soft font-medium text-accent"
                : "text-muted hover:bg-sunken hover:text-text",
            )}
            onClick={() => select({ view: name === "tree" ? undefined : name })}
          >
            {label}
            {count > 0 && <span className="ml-1 text-2xs tabular">{number(count)}</span>}
          </button>
        );
      })}
    </nav>
  );
}
