import { GitFork } from "lucide-react";
import { ContextChips } from "@/conversation/ContextChips";
import { useUi } from "@/shell/ui";
import { Button } from "@/ui/Button";
import { StatusIcon } from "@/ui/StatusIcon";
import { bytes, duration } from "@/workspace/format";
import { BlobText } from "./BlobText";
import type { RunProps } from "./RunDetail";

const NEWEST = 30;

/** Exactly what the model was sent, per call; contexts are named, because their text is not in the prompt. */
export function PromptTab({ bench, turn, run }: RunProps) {
  const calls = run.steps.flatMap((step) => (step.kind === "call" ? (bench.calls[step.id] ?? []) : []));
  const shown = calls.slice(0, NEWEST);
  return (
    <>
      {run.contexts.length > 0 && (
        <div className="mb-3">
          <ContextChips contexts={run.contexts} />
          <p className="mt-1 text-2xs text-muted">
            {run.kind === "direct"
              ? "Their text is part of the prompt: this is a direct call."
              : "Variables in the sandbox. Their text is not part of any prompt."}
          </p>
        </div>
      )}
      {calls.length === 0 && <p className="text-sm text-muted">This run has not called a model yet.</p>}
      {shown.map((call, index) => (
        <details key={call.id} open={index === 0} className="mb-2 rounded-md border border-line">
          <summary className="flex h-8 items-center gap-2 px-2.5 text-xs">
            <StatusIcon status={call.status} size={13} />
            <span className="font-medium">Call {index + 1}</span>
            <span className="text-muted">
              {call.role} · {bytes(call.prompt.bytes)}
              {call.ms !== null && ` · ${duration(call.ms)}`}
              {call.cached && " · cached"}
              {call.replayed && " · from the journal"}
              {call.shared && " · shared"}
            </span>
          </summary>
          <div className="space-y-2 border-t p-2.5">
            <div className="flex items-center gap-2">
              <p className="flex-1 text-2xs font-medium text-muted">Prompt</p>
              <Button
                look="quiet"
                className="h-6 px-1.5 text-2xs"
                data-testid="fork-prompt-open"
                icon={<GitFork size={12} aria-hidden="true" />}
                onClick={() => useUi.setState({ forking: { turn: turn.id, call: call.id } })}
              >
                Fork with another prompt
              </Button>
            </div>
            <BlobText text={call.prompt} label="prompt" />
            {call.response && (
              <>
                <p className="text-2xs font-medium text-muted">Response</p>
                <BlobText text={call.response} label="response" />
              </>
            )}
            {call.error && <p className="text-xs text-err">{call.error.message}</p>}
          </div>
        </details>
      ))}
      {calls.length > NEWEST && (
        <p className="text-xs text-muted">
          The first {NEWEST} of {calls.length} calls; the rest are under Usage.
        </p>
      )}
    </>
  );
}
