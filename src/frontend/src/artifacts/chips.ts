import type { ArtifactView, Workbench } from "@/workspace/state";

/** The newest version of each file, in the order of their names' first appearance. */
export function newest(artifacts: readonly ArtifactView[]): ArtifactView[] {
  const byName = new Map<string, ArtifactView>();
  for (const artifact of artifacts) {
    const known = byName.get(artifact.name);
    if (!known || artifact.version >= known.version) byName.set(artifact.name, artifact);
  }
  return [...byName.values()];
}

export function artifactsOf(bench: Workbench, turn?: string): ArtifactView[] {
  const all = Object.values(bench.artifacts);
  return turn ? all.filter((artifact) => artifact.turn === turn) : all;
}
