import { clsx } from "clsx";
import { compact, cost, duration, number } from "@/workspace/format";
import type { Side } from "./shape";

interface Measure {
  name: string;
  of: (side: Side) => number | null;
  show: (value: number) => string;
}

const tokens = ({ usage }: Side) => (usage.prompt_tokens ?? 0) + (usage.completion_tokens ?? 0);

const MEASURES: Measure[] = [
  { name: "Cost", of: ({ usage }) => usage.cost_usd ?? null, show: cost },
  {
    name: "Time",
    of: ({ usage }) => (usage.wall_s == null ? null : usage.wall_s * 1_000),
    show: duration,
  },
  { name: "Tokens", of: tokens, show: compact },
  { name: "Model calls", of: ({ usage }) => usage.calls ?? 0, show: number },
  { name: "Runs", of: (side) => side.runs, show: number },
  { name: "Iterations", of: (side) => side.iterations, show: number },
];

/** "+12 %", "−$0.01": less of any of these is better. */
function Delta({ from, to, show }: { from: number | null; to: number | null; show: Measure["show"] }) {
  if (from === null || to === null) return <span className="text-muted">–</span>;
  const by = to - from;
  if (by === 0) return <span className="text-muted">same</span>;
  const share = from > 0 ? ` (${by > 0 ? "+" : "−"}${Math.abs(Math.round((by / from) * 100))} %)` : "";
  return (
    <span className={clsx("whitespace-nowrap", by > 0 ? "text-warn" : "text-ok")}>
      {by > 0 ? "+" : "−"}
      {show(Math.abs(by))}
      <span className="text-2xs max-sm:hidden">{share}</span>
    </span>
  );
}

export function Deltas({ a, b }: { a: Side; b: Side }) {
  return (
    <table className="w-full max-w-[560px] text-sm tabular" data-testid="deltas">
      <thead>
        <tr className="text-left text-xs text-muted">
          <th scope="col" className="py-1 pr-2 font-normal">
            <span className="sr-only">Measure</span>
          </th>
          <th scope="col" className="px-2 py-1 text-right font-normal">
            A
          </th>
          <th scope="col" className="px-2 py-1 text-right font-normal">
            B
          </th>
          <th scope="col" className="py-1 pl-2 text-right font-normal">
            Difference
          </th>
        </tr>
      </thead>
      <tbody>
        {MEASURES.map(({ name, of, show }) => (
          <tr key={name} className="border-t">
            <th scope="row" className="py-1 pr-2 text-left font-normal">
              {name}
            </th>
            {[a, b].map((side, at) => {
              const value = of(side);
              return (
                <td key={at} className="px-2 py-1 text-right">
                  {value === null ? "unknown" : show(value)}
                </td>
              );
            })}
            <td className="py-1 pl-2 text-right">
              <Delta from={of(a)} to={of(b)} show={show} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
