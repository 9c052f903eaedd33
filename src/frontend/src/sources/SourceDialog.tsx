import { useQuery } from "@tanstack/react-query";
import { clsx } from "clsx";
import { useEffect, useRef } from "react";
import { explain } from "@/api/client";
import { readLines } from "@/api/resources";
import type { Citation } from "@/generated/events";
import { useSelection } from "@/shell/selection";
import { CopyButton } from "@/ui/CopyButton";
import { Dialog } from "@/ui/Dialog";
import { pickTurn } from "@/workspace/select";
import { useWorkspace } from "@/workspace/store";

const AROUND = 24;

/** A citation names its context by content hash or by the name it was given. */
function shaOf(citation: Citation, contexts: { name: string; sha256: string }[]): string {
  return (
    contexts.find((context) => context.sha256 === citation.context || context.name === citation.context)
      ?.sha256 ?? citation.context
  );
}

function Lines({ sha, citation }: { sha: string; citation: Citation }) {
  const first = Math.max(1, citation.line - AROUND);
  const last = citation.line + AROUND;
  const { data, error, isPending } = useQuery({
    queryKey: ["lines", sha, citation.path, first, last],
    queryFn: () => readLines(sha, citation.path, first, last),
    staleTime: Number.POSITIVE_INFINITY,
  });
  const hit = useRef<HTMLTableRowElement>(null);
  useEffect(() => {
    if (data) hit.current?.scrollIntoView({ block: "center" });
  }, [data]);
  if (error) return <p className="p-4 text-sm text-err">{explain(error).message}</p>;
  if (isPending) return <p className="p-4 text-sm text-muted">Reading the lines</p>;
  return (
    <div className="overflow-auto py-2" tabIndex={0} role="group" aria-label="Source lines">
      <table className="w-full font-mono text-xs leading-[19px]">
        <tbody>
          {data.map((line, index) => {
            const number = first + index;
            const cited = number === citation.line;
            return (
              <tr
                key={number}
                ref={cited ? hit : undefined}
                data-testid={cited ? "cited-line" : undefined}
                className={clsx(cited && "bg-accent-soft")}
              >
                <td
                  className={clsx(
                    "w-0 pr-3 pl-4 text-right align-top tabular select-none",
                    cited ? "text-accent" : "text-muted",
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

/** The source behind a citation: the cited line among its neighbours. The URL holds which one is open. */
export default function SourceDialog() {
  const bench = useWorkspace((state) => state.bench);
  const [selection, select] = useSelection();
  const turn = pickTurn(bench, selection.turn);
  const citation = selection.cite === undefined ? undefined : turn?.citations[selection.cite];
  if (!turn || !citation) return null;
  const sha = shaOf(citation, turn.contexts);
  const context = turn.contexts.find((entry) => entry.sha256 === sha);
  const place = `${citation.path}:${citation.line}`;
  return (
    <Dialog
      open
      width={780}
      onClose={() => select({ cite: undefined })}
      title={
        <span className="flex items-center gap-1 font-mono text-sm">
          <span className="truncate" data-testid="source-title">
            {place}
          </span>
          <CopyButton text={place} label="Copy place" />
        </span>
      }
      description={context ? `In ${context.name}` : "Source lines"}
    >
      <Lines sha={sha} citation={citation} />
    </Dialog>
  );
}
