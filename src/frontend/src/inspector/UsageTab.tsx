import { StatusIcon } from "@/ui/StatusIcon";
import { compact, cost, duration, number, plural } from "@/workspace/format";
import type { CallView, RunView, Workbench } from "@/workspace/state";
import { liveUsage } from "@/workspace/tree";
import type { RunProps } from "./RunDetail";
import { Facts, Section } from "./Section";

const SHOWN = 200;

/** How a call came by its answer, where it was not simply made. */
function marks(call: CallView): string[] {
  return [call.replayed ? "journal" : "", call.shared ? "shared" : "", call.cached ? "cached" : ""].filter(
    Boolean,
  );
}

/** Over a run and everything below it. */
function cacheOf(bench: Workbench, run: RunView) {
  const out = { prompt: 0, cached: 0, shared: 0, replayed: 0, queued: 0 };
  const stack = [run.id];
  while (stack.length) {
    const next = bench.runs[stack.pop() ?? ""];
    if (!next) continue;
    stack.push(...next.children);
    if (next.replayed) out.replayed += next.usage.calls ?? 0;
    for (const step of next.steps) {
      const call = step.kind === "call" ? bench.calls[step.id] : undefined;
      if (!call) continue;
      out.prompt += call.prompt_tokens;
      out.cached += call.cached_tokens;
      out.queued += call.queued_ms;
      if (call.shared) out.shared += 1;
      if (call.replayed) out.replayed += 1;
    }
  }
  return out;
}

export function UsageTab({ bench, run }: RunProps) {
  const calls = run.steps.flatMap((step) => (step.kind === "call" ? (bench.calls[step.id] ?? []) : []));
  const its = run.steps.flatMap((step) =>
    step.kind === "iteration" ? (bench.iterations[step.id] ?? []) : [],
  );
  const total = liveUsage(bench, run.id);
  const model = its.reduce((sum, it) => sum + (it.model_ms ?? 0), 0);
  const sandbox = its.reduce((sum, it) => sum + (it.sandbox_ms ?? 0), 0);
  const cache = cacheOf(bench, run);
  const rate = cache.prompt ? Math.round((cache.cached / cache.prompt) * 100) : 0;
  const more: [string, string][] = [];
  if (cache.prompt)
    more.push([
      "Read from the provider's cache",
      `${compact(cache.cached)} of ${compact(cache.prompt)} prompt tokens, ${rate} %`,
    ]);
  if (cache.replayed) more.push(["Taken from the journal", plural(cache.replayed, "call")]);
  if (cache.shared) more.push(["Shared with a call in flight", plural(cache.shared, "call")]);
  if (cache.queued) more.push(["Waited for a place", duration(cache.queued)]);
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
            ...more,
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
                  {["", "Role", "In", "Cached", "Out", "Queued", "Cost", "Time"].map((name, index) => (
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
                      {marks(call).map((mark) => (
                        <span key={mark} className="ml-1 rounded-sm bg-sunken px-1 text-2xs text-muted">
                          {mark}
                        </span>
                      ))}
                    </td>
                    <td className="px-2 py-1 text-right">{compact(call.prompt_tokens)}</td>
                    <td className="px-2 py-1 text-right text-muted">
                      {call.cached_tokens ? compact(call.cached_tokens) : ""}
                    </td>
                    <td className="px-2 py-1 text-right">{compact(call.completion_tokens)}</td>
                    <td className="px-2 py-1 text-right text-muted">
                      {call.queued_ms ? duration(call.queued_ms) : ""}
                    </td>
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
