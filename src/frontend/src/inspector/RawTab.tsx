import { BlobText } from "./BlobText";
import type { RunProps } from "./RunDetail";

const LIMIT = 20;

/** The run as the page holds it, with the tables it points into. */
export function RawTab({ bench, run }: RunProps) {
  const steps = run.steps.slice(0, LIMIT).map((step) => {
    const tables = {
      iteration: bench.iterations,
      cell: bench.cells,
      call: bench.calls,
      tool: bench.tools,
      artifact: bench.artifacts,
      approval: bench.approvals,
    };
    return tables[step.kind][step.id] ?? step;
  });
  const children =
    run.children.length > LIMIT
      ? [...run.children.slice(0, LIMIT), `… ${run.children.length - LIMIT} more`]
      : run.children;
  const text = JSON.stringify({ ...run, children, steps }, null, 2);
  return <BlobText text={{ head: text, bytes: text.length }} label="raw data" />;
}
