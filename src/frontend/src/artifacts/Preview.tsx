import { useQuery } from "@tanstack/react-query";
import { ShieldAlert } from "lucide-react";
import { lazy, Suspense, useState } from "react";
import { explain } from "@/api/client";
import { DiffText } from "@/compare/DiffText";
import { Button } from "@/ui/Button";
import { bytes } from "@/workspace/format";
import type { ArtifactView } from "@/workspace/state";
import { MOST_BYTES, readText, viewUrl } from "./content";
import { kindOf } from "./KindIcon";
import { TableView } from "./TableView";

const Markdown = lazy(() => import("@/conversation/Markdown"));

const none = () => {};

/** A generated page: no network, no cookies, no way out of its frame; scripts only when asked for (ui-spec 5.8). */
function Page({ artifact }: { artifact: ArtifactView }) {
  const [scripts, setScripts] = useState(false);
  return (
    <div className="overflow-hidden rounded-md border border-line">
      <p className="flex items-center gap-2 border-b bg-sunken px-2.5 py-1 text-2xs text-muted">
        <ShieldAlert size={12} aria-hidden="true" />
        <span className="flex-1">
          Generated content in a closed frame
          {scripts && ", scripts run: they see only this page, but could send it away"}
        </span>
        <Button className="h-6 px-2 text-2xs" data-testid="run-scripts" onClick={() => setScripts(!scripts)}>
          {scripts ? "Stop scripts" : "Run scripts"}
        </Button>
      </p>
      <iframe
        key={String(scripts)}
        title={artifact.name}
        src={viewUrl(artifact.id)}
        sandbox={scripts ? "allow-scripts" : ""}
        referrerPolicy="no-referrer"
        className="block h-[55vh] w-full bg-[white]"
        data-testid="artifact-frame"
      />
    </div>
  );
}

function Picture({ artifact }: { artifact: ArtifactView }) {
  const [large, setLarge] = useState(false);
  return (
    <button
      type="button"
      aria-label={large ? `Fit ${artifact.name}` : `Enlarge ${artifact.name}`}
      className="block max-h-[60vh] w-full overflow-auto rounded-md border border-line bg-[white] p-2"
      onClick={() => setLarge(!large)}
    >
      <img
        src={viewUrl(artifact.id)}
        alt={artifact.name}
        className={large ? "max-w-none" : "mx-auto max-h-[55vh] max-w-full"}
      />
    </button>
  );
}

function TextBox({ text, label }: { text: string; label: string }) {
  return (
    <pre
      tabIndex={0}
      role="group"
      aria-label={label}
      className="max-h-[60vh] overflow-auto rounded-md border border-line bg-sunken p-2.5 font-mono text-xs whitespace-pre-wrap [overflow-wrap:anywhere]"
    >
      {text || "(empty)"}
    </pre>
  );
}

function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function Texts({ artifact, before }: { artifact: ArtifactView; before: ArtifactView | null }) {
  const load = (id: string) => ({
    queryKey: ["artifact", id],
    queryFn: () => readText(id),
    staleTime: Number.POSITIVE_INFINITY,
  });
  const now = useQuery(load(artifact.id));
  const old = useQuery({ ...load(before?.id ?? ""), enabled: before !== null });
  const failed = now.error ?? old.error;
  if (failed) return <p className="text-sm text-err">{explain(failed).message}</p>;
  if (!now.data || (before && !old.data)) return <p className="text-sm text-muted">Reading the file</p>;
  const { text, whole } = now.data;
  if (before && old.data) return <DiffText before={old.data.text} after={text} />;
  const kind = kindOf(artifact.kind, artifact.name);
  return (
    <>
      {kind === "table" ? (
        <TableView text={text} whole={whole} />
      ) : kind === "markdown" ? (
        <div
          className="prose rounded-md border border-line bg-panel px-4 py-3"
          data-testid="artifact-markdown"
        >
          <Suspense fallback={<TextBox text={text} label={artifact.name} />}>
            <Markdown text={text} streaming={false} citations={[]} onCite={none} />
          </Suspense>
        </div>
      ) : (
        <TextBox text={kind === "json" && whole ? pretty(text) : text} label={artifact.name} />
      )}
      {!whole && (
        <p className="mt-1 text-2xs text-muted">
          The first {bytes(MOST_BYTES)} of {bytes(artifact.bytes)}; the download has all of it.
        </p>
      )}
    </>
  );
}

/** An artifact as what it is. `before`: another version, to show what changed. */
export function Preview({ artifact, before }: { artifact: ArtifactView; before: ArtifactView | null }) {
  const kind = kindOf(artifact.kind, artifact.name);
  if (kind === "image") return <Picture artifact={artifact} />;
  if (kind === "binary")
    return <p className="text-sm text-muted">There is no preview of {artifact.kind}. The download has it.</p>;
  if (kind === "html" && !before) return <Page artifact={artifact} />;
  return <Texts artifact={artifact} before={before} />;
}
