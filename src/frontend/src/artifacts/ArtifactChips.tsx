import { useSelection } from "@/shell/selection";
import { setInspector } from "@/shell/ui";
import { bytes } from "@/workspace/format";
import type { ArtifactView } from "@/workspace/state";
import { newest } from "./chips";
import { KindIcon } from "./KindIcon";

/** Under an answer: the files that came with it. */
export default function ArtifactChips({ artifacts }: { artifacts: readonly ArtifactView[] }) {
  const [, select] = useSelection();
  return (
    <ul
      className="mt-2 flex flex-wrap gap-1.5"
      aria-label="Files of this answer"
      data-testid="artifact-chips"
    >
      {newest(artifacts).map((artifact) => (
        <li key={artifact.id} className="max-w-full">
          <button
            type="button"
            className="flex h-8 max-w-full items-center gap-1.5 rounded-md border border-line bg-panel px-2 text-xs hover:border-line-strong hover:bg-sunken pointer-coarse:h-10"
            onClick={() => {
              select({ turn: artifact.turn, view: "artifacts", artifact: artifact.id });
              setInspector(true);
            }}
          >
            <KindIcon kind={artifact.kind} />
            <span className="truncate font-medium">{artifact.name}</span>
            <span className="shrink-0 text-2xs text-muted tabular">{bytes(artifact.bytes)}</span>
          </button>
        </li>
      ))}
    </ul>
  );
}
