import type { RunProps } from "@/inspector/RunDetail";
import Thought from "./Thought";

/** What the model of this run thought aloud, in order. */
export function ThoughtsTab({ bench, run }: RunProps) {
  const thoughts = run.reasoning.flatMap((id) => bench.messages[id] ?? []);
  if (!thoughts.length) return <p className="text-sm text-muted">The model of this run told no thoughts.</p>;
  return (
    <div className="space-y-2">
      {thoughts.map((thought, index) => (
        <Thought key={thought.id} thought={thought} startOpen={index < 3} />
      ))}
    </div>
  );
}
