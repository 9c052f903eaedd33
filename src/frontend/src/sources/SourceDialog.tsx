import type { Citation } from "@/generated/events";
import { useSelection } from "@/shell/selection";
import { CopyButton } from "@/ui/CopyButton";
import { Dialog } from "@/ui/Dialog";
import { pickTurn } from "@/workspace/select";
import { useWorkspace } from "@/workspace/store";
import { Lines } from "./Lines";

/** A citation names its context by content hash or by the name it was given. */
function shaOf(citation: Citation, contexts: { name: string; sha256: string }[]): string {
  return (
    contexts.find((context) => context.sha256 === citation.context || context.name === citation.context)
      ?.sha256 ?? citation.context
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
      description={[context ? `In ${context.name}` : "Source lines", citation.place]
        .filter(Boolean)
        .join(", ")}
    >
      <Lines sha={sha} path={citation.path} from={citation.line} to={citation.line} />
    </Dialog>
  );
}
