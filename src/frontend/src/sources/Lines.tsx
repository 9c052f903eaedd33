import { useQuery } from "@tanstack/react-query";
import { clsx } from "clsx";
import { useEffect, useRef } from "react";
import { explain } from "@/api/client";
import { readLines } from "@/api/resources";

const AROUND = 24;
const MOST = 1_200;

interface LinesProps {
  sha: string;
  path: string;
  /** The marked lines, 1-based, both included. */
  from: number;
  to: number;
}

/** Lines of a context's file, the marked ones among their neighbours. */
export function Lines({ sha, path, from, to }: LinesProps) {
  const first = Math.max(1, from - AROUND);
  const last = Math.min(to, from + MOST) + AROUND;
  const { data, error, isPending } = useQuery({
    queryKey: ["lines", sha, path, first, last],
    queryFn: () => readLines(sha, path, first, last),
    staleTime: Number.POSITIVE_INFINITY,
  });
  const hit = useRef<HTMLTableRowElement>(null);
  useEffect(() => {
    if (data) hit.current?.scrollIntoView({ block: from === to ? "center" : "start" });
  }, [data, from, to]);
  if (error) return <p className="p-4 text-sm text-err">{explain(error).message}</p>;
  if (isPending) return <p className="p-4 text-sm text-muted">Reading the lines</p>;
  return (
    <div className="overflow-auto py-2" tabIndex={0} role="group" aria-label="Source lines">
      <table className="w-full font-mono text-xs leading-[19px]">
        <tbody>
          {data.map((line, index) => {
            const number = first + index;
            const marked = number >= from && number <= to;
            return (
              <tr
                key={number}
                ref={number === from ? hit : undefined}
                data-testid={marked ? "cited-line" : undefined}
                className={clsx("scroll-mt-10", marked && "bg-accent-soft")}
              >
                <td
                  className={clsx(
                    "w-0 pr-3 pl-4 text-right align-top tabular select-none",
                    marked ? "text-accent" : "text-muted",
                  )}
                >
                  {number}
                </td>
                <td className="pr-4 whitespace-pre-wrap [overflow-wrap:anywhere]">{line || " "}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
