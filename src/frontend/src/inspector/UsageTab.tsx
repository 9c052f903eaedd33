import { StatusIcon } from "@/ui/StatusIcon";
import { compact, cost, duration, number } from "@/workspace/format";
import { liveUsage } from "@/workspace/tree";
import type { RunProps } from "./RunDetail";
import { Facts, Section } from "./Section";

const SHOWN = 200;

export function UsageTab({ bench, run }: RunProps) {
  const calls = run.steps.flatMap((step) => (step.kind === "call" ? (bench.calls[step.id] ?? []) : []));
  const its = run.steps.flatMap((step) =>
    step.kind === "iteration" ? (bench.iterations[step.id] ?? []) : [],
  );
  const total = liveUsage(bench, run.id);
  const model = its.reduce((sum, it) => sum + (it.model_ms ?? 0), 0);
  const sandbox = its.reduce((sum, it) => sum + (it.sandbox_ms ?? 0), 0);
  return (
    <>
      <Section title="This run and everything below it">
        <Facts
          rows={[
            ["Model calls", number(total.calls)],
            ["Tokens", number(total.tokens)],
            ["Cost", total.calls ? cost(total.cost) : "nothing yet"],
            ["Waited for the model", its.length ? duration(model) : "–"],
            ["Ran in the sandbox", its.length ? duration(sandbox) : "–"],
          ]}
        />
      </Section>
      {calls.length > 0 && (
        <Section
          title="Its own calls"
          note={calls.length > SHOWN ? `first ${SHOWN} of ${number(calls.length)}` : undefined}
        >
          <div
            className="overflow-x-auto rounded-md border border-line"
            tabIndex={0}
            role="group"
            aria-label="Calls"
          >
            <table className="w-full text-xs tabular">
              <thead className="bg-sunken text-left text-muted">
                <tr>
                  {["", "Role", "In", "Out", "Cost", "Time"].map((name, index) => (
                    <th
                      key={name}
                      scope="col"
                      className={index > 1 ? "px-2 py-1 text-right font-normal" : "px-2 py-1 font-normal"}
                    >
                      {name || <span className="sr-only">Status</span>}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {calls.slice(0, SHOWN).map((call) => (
                  <tr key={call.id} className="border-t">
                    <td className="px-2 py-1">
                      <StatusIcon status={call.status} size={12} />
                    </td>
                    <td className="px-2 py-1">
                      {call.role}
                      {call.cached && " (cached)"}
                    </td>
                    <td className="px-2 py-1 text-right">{compact(call.prompt_tokens)}</td>
                    <td className="px-2 py-1 text-right">{compact(call.completion_tokens)}</td>
                    <td className="px-2 py-1 text-right">
                      {call.status === "running" ? "" : cost(call.cost_usd)}
                    </td>
                    <td className="px-2 py-1 text-right">{call.ms === null ? "" : duration(call.ms)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </Section>
      )}
    </>
  );
}
