import { Quote } from "lucide-react";
import type { Citation } from "@/generated/events";
import { placeOf } from "./cites";

/** The places an answer rests on, each opening its lines. */
export function Sources({
  citations,
  onCite,
}: {
  citations: readonly Citation[];
  onCite: (index: number) => void;
}) {
  if (!citations.length) return null;
  return (
    <div role="group" aria-label="Sources" className="rounded-lg border border-line bg-panel">
      <p className="flex items-center gap-1.5 border-b px-2.5 py-1 text-xs font-medium text-muted">
        <Quote size={12} aria-hidden="true" />
        Sources
      </p>
      <ul className="py-1">
        {citations.map((citation, index) => (
          <li key={placeOf(citation)}>
            <button
              type="button"
              data-testid="source"
              className="flex w-full min-w-0 items-baseline gap-3 px-2.5 py-0.5 text-left hover:bg-sunken"
              onClick={() => onCite(index)}
            >
              <span className="max-w-[55%] shrink-0 truncate font-mono text-xs text-accent">
                {placeOf(citation)}
              </span>
              <code className="min-w-0 flex-1 truncate font-mono text-2xs text-muted">
                {citation.quote.trim()}
              </code>
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
