import { FileText, Folder } from "lucide-react";
import type { ContextRef } from "@/generated/events";
import { Chip } from "@/ui/Chip";
import { bytes, number, plural, tokensOf } from "@/workspace/format";

export function contextFacts(context: ContextRef): string {
  const files = context.kind === "tree" ? `${plural(context.files ?? 1, "file")}, ` : "";
  return `${context.name}: ${files}${number(context.lines)} lines, ${number(context.chars)} characters, ${tokensOf(context.chars)}`;
}

export function ContextChips({ contexts }: { contexts: readonly ContextRef[] }) {
  if (!contexts.length) return null;
  return (
    <ul className="flex flex-wrap gap-1.5" aria-label="Contexts">
      {contexts.map((context) => (
        <li key={context.sha256} className="max-w-full">
          <Chip title={contextFacts(context)}>
            {context.kind === "tree" ? (
              <Folder size={12} className="shrink-0" aria-hidden="true" />
            ) : (
              <FileText size={12} className="shrink-0" aria-hidden="true" />
            )}
            <span className="truncate text-text">{context.name}</span>
            <span className="tabular">
              {context.kind === "tree" && `${plural(context.files ?? 1, "file")} · `}
              {bytes(context.bytes)}
            </span>
          </Chip>
        </li>
      ))}
    </ul>
  );
}
