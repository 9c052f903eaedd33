import { clsx } from "clsx";
import { Download } from "lucide-react";
import { useState } from "react";
import { useSelection } from "@/shell/selection";
import { runName } from "@/tree/TreeRow";
import { bytes, plural } from "@/workspace/format";
import type { ArtifactView, Workbench } from "@/workspace/state";
import { artifactsOf, newest } from "./chips";
import { contentUrl } from "./content";
import { KIND_WORDS, KindIcon, kindOf } from "./KindIcon";
import { Preview } from "./Preview";

function Provenance({ bench, artifact }: { bench: Workbench; artifact: ArtifactView }) {
  const [, select] = useSelection();
  const run = bench.runs[artifact.run ?? ""];
  const n = bench.turn_order.indexOf(artifact.turn) + 1;
  if (!run) return null;
  return (
    <button
      type="button"
      className="min-w-0 truncate text-accent underline underline-offset-2"
      onClick={() =>
        select({
          turn: artifact.turn,
          run: run.id,
          view: "tree",
          tab: artifact.cell ? "cells" : "overview",
          cell: artifact.cell ?? undefined,
        })
      }
    >
      {n > 0 && `turn ${n}, `}
      {runName(run).slice(0, 60)}
    </button>
  );
}

function Versions(props: {
  versions: ArtifactView[];
  artifact: ArtifactView;
  compare: boolean;
  onCompare: (compare: boolean) => void;
}) {
  const { versions, artifact } = props;
  const [, select] = useSelection();
  if (versions.length < 2) return null;
  return (
    <div className="flex items-center gap-2 text-xs">
      <select
        aria-label="Version"
        className="h-7 rounded-md border border-line bg-panel px-1.5 pointer-coarse:h-10"
        value={artifact.id}
        onChange={(event) => select({ artifact: event.target.value })}
      >
        {versions.map((version) => (
          <option key={version.id} value={version.id}>
            Version {version.version}
          </option>
        ))}
      </select>
      {artifact.version > 1 && (
        <label className="flex items-center gap-1.5 text-muted pointer-coarse:h-10">
          <input
            type="checkbox"
            checked={props.compare}
            onChange={(event) => props.onCompare(event.target.checked)}
          />
          Changes since version {artifact.version - 1}
        </label>
      )}
    </div>
  );
}

function Shown({ bench, artifact }: { bench: Workbench; artifact: ArtifactView }) {
  const [compare, setCompare] = useState(false);
  const versions = artifactsOf(bench)
    .filter((other) => other.name === artifact.name)
    .sort((a, b) => a.version - b.version);
  const before = versions.find((other) => other.version === artifact.version - 1) ?? null;
  return (
    <section aria-label={artifact.name} className="min-w-0" data-testid="artifact">
      <div className="mb-2 flex flex-wrap items-center gap-x-3 gap-y-1.5">
        <div className="min-w-40 flex-1">
          <h2 className="truncate text-sm font-semibold">{artifact.name}</h2>
          <p className="flex min-w-0 gap-1 text-2xs text-muted tabular">
            <span className="shrink-0">
              {KIND_WORDS[kindOf(artifact.kind, artifact.name)]} · {bytes(artifact.bytes)} · version{" "}
              {artifact.version} · by
            </span>
            <Provenance bench={bench} artifact={artifact} />
          </p>
        </div>
        <Versions versions={versions} artifact={artifact} compare={compare} onCompare={setCompare} />
        <a
          href={contentUrl(artifact.id)}
          download={artifact.name}
          className="inline-flex h-8 items-center gap-1.5 rounded-md border border-line bg-panel px-2.5 text-sm font-medium hover:bg-sunken pointer-coarse:h-10"
        >
          <Download size={13} aria-hidden="true" />
          Download
        </a>
      </div>
      <Preview key={artifact.id} artifact={artifact} before={compare ? before : null} />
    </section>
  );
}

/** All files that the runs of this session made, and the chosen one as what it is. */
export default function ArtifactsTab({ bench }: { bench: Workbench }) {
  const [{ artifact: chosen }, select] = useSelection();
  const all = artifactsOf(bench);
  const list = newest(all);
  const shown = bench.artifacts[chosen ?? ""] ?? list.at(-1);
  if (!shown) {
    return (
      <p className="p-3 text-sm text-muted">
        No run of this session has made a file yet. Code makes one with{" "}
        <code className="font-mono text-xs">save_artifact(value, name)</code>.
      </p>
    );
  }
  return (
    <div className="space-y-3 p-3" data-testid="artifacts-tab">
      <ul className="overflow-hidden rounded-md border border-line bg-panel" aria-label="Files">
        {list.map((artifact) => (
          <li key={artifact.id} className="border-t first:border-t-0">
            <button
              type="button"
              aria-current={artifact.name === shown.name || undefined}
              data-testid="artifact-row"
              className={clsx(
                "flex h-8 w-full items-center gap-2 px-2.5 text-left text-xs -outline-offset-2 pointer-coarse:h-10",
                artifact.name === shown.name ? "bg-accent-soft" : "hover:bg-sunken",
              )}
              onClick={() => select({ artifact: artifact.id })}
            >
              <KindIcon kind={artifact.kind} name={artifact.name} />
              <span className="min-w-0 flex-1 truncate font-medium">{artifact.name}</span>
              {artifact.version > 1 && (
                <span className="shrink-0 text-2xs text-muted">{plural(artifact.version, "version")}</span>
              )}
              <span className="w-14 shrink-0 text-right text-2xs text-muted">
                {KIND_WORDS[kindOf(artifact.kind, artifact.name)]}
              </span>
              <span className="w-14 shrink-0 text-right text-2xs text-muted tabular">
                {bytes(artifact.bytes)}
              </span>
            </button>
          </li>
        ))}
      </ul>
      <Shown bench={bench} artifact={shown} />
    </div>
  );
}
