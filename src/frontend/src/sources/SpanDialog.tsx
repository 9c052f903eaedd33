import { useQuery } from "@tanstack/react-query";
import { explain } from "@/api/client";
import { readPlace } from "@/api/resources";
import { useSelection } from "@/shell/selection";
import { CopyButton } from "@/ui/CopyButton";
import { Dialog } from "@/ui/Dialog";
import { number } from "@/workspace/format";
import { useWorkspace } from "@/workspace/store";
import { Lines } from "./Lines";

/** "sha:start-end" of the URL; null when it is none. */
export function parseSpan(word: string | undefined): { sha: string; start: number; end: number } | null {
  const match = /^([0-9a-f]{8,64}):(\d+)-(\d+)$/.exec(word ?? "");
  if (!match?.[1]) return null;
  const [start, end] = [Number(match[2]), Number(match[3])];
  return end > start ? { sha: match[1], start, end } : null;
}

/** Characters of a context as the lines of the file they lie in. */
export default function SpanDialog() {
  const [selection, select] = useSelection();
  const span = parseSpan(selection.span);
  const context = useWorkspace((state) => state.bench?.contexts[span?.sha ?? ""]);
  const { data, error } = useQuery({
    queryKey: ["place", span?.sha, span?.start, span?.end],
    queryFn: async () => {
      if (!span) return null;
      const from = await readPlace(span.sha, span.start);
      const to = await readPlace(span.sha, span.end - 1);
      return { from, to: to.path === from.path ? to.line : Number.MAX_SAFE_INTEGER, last: to };
    },
    staleTime: Number.POSITIVE_INFINITY,
  });
  if (!span) return null;
  const place = data ? `${data.from.path}:${data.from.line}` : "…";
  const across =
    data && data.last.path !== data.from.path ? `, on to ${data.last.path}:${data.last.line}` : "";
  return (
    <Dialog
      open
      width={780}
      onClose={() => select({ span: undefined })}
      title={
        <span className="flex items-center gap-1 font-mono text-sm">
          <span className="truncate" data-testid="source-title">
            {place}
          </span>
          <CopyButton text={place} label="Copy place" />
        </span>
      }
      description={`Characters ${number(span.start)} to ${number(span.end)}${context ? ` of ${context.name}` : ""}${across}`}
    >
      {error && <p className="p-4 text-sm text-err">{explain(error).message}</p>}
      {!error && !data && <p className="p-4 text-sm text-muted">Looking for the place</p>}
      {data && <Lines sha={span.sha} path={data.from.path} from={data.from.line} to={data.to} />}
    </Dialog>
  );
}
