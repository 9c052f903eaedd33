import { BlobText } from "./BlobText";
import type { RunProps } from "./RunDetail";

export function OutputTab({ run }: RunProps) {
  if (run.output) return <BlobText text={run.output} label="output" />;
  if (run.error) return <p className="text-sm text-err">{run.error.message}</p>;
  return (
    <p className="text-sm text-muted">
      {run.status === "running" ? "The run has not ended yet." : "This run ended without an output."}
    </p>
  );
}
