import type { TestResult } from "@/api/types";
import { StatusIcon } from "@/ui/StatusIcon";
import { duration } from "@/workspace/format";

/** Each step of a connectivity test with its time, the exact error and the likely fix. */
export function TestSteps({ result }: { result: TestResult }) {
  return (
    <div
      className="rounded-md border border-line"
      role="status"
      data-testid="test-result"
      data-ok={result.ok}
    >
      <p
        className={
          result.ok
            ? "border-b px-3 py-1.5 text-sm font-medium text-ok"
            : "border-b px-3 py-1.5 text-sm font-medium text-err"
        }
      >
        {result.ok ? "Everything works" : "This does not work yet"}
      </p>
      <ol className="py-1">
        {result.steps.map((step) => (
          <li key={step.name} className="flex items-start gap-2 px-3 py-1 text-sm">
            <StatusIcon status={step.ok ? "ok" : "failed"} size={14} className="mt-0.5" />
            <span className="w-36 shrink-0 first-letter:uppercase">{step.name}</span>
            <span className="min-w-0 flex-1 text-muted [overflow-wrap:anywhere]">
              {step.detail}
              {step.fix && <span className="block text-text first-letter:uppercase">{step.fix}</span>}
            </span>
            <span className="shrink-0 text-xs text-muted tabular">{duration(step.ms)}</span>
          </li>
        ))}
      </ol>
    </div>
  );
}
