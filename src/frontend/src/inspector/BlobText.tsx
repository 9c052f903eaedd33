import { useState } from "react";
import { explain } from "@/api/client";
import { readBlob } from "@/api/resources";
import type { Text } from "@/generated/events";
import { Button } from "@/ui/Button";
import { CopyButton } from "@/ui/CopyButton";
import { bytes } from "@/workspace/format";

const PAGE = 262_144;

/** A text of the journal: its head at once, the rest in pages when asked for. */
export function BlobText({ text, label }: { text: Text; label: string }) {
  const [rest, setRest] = useState<{ text: string; offset: number } | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const shown = rest?.text ?? text.head;
  const more = text.ref && (rest?.offset ?? 0) < text.bytes;
  const load = async () => {
    if (!text.ref) return;
    setBusy(true);
    try {
      const offset = rest?.offset ?? 0;
      const part = await readBlob(text.ref, offset, PAGE);
      setRest({ text: (rest?.text ?? "") + part, offset: offset + PAGE });
      setProblem(null);
    } catch (error) {
      setProblem(explain(error).message);
    }
    setBusy(false);
  };
  return (
    <div>
      <div className="relative rounded-md border border-line bg-sunken">
        <div className="absolute top-1 right-1">
          <CopyButton text={shown} label={`Copy ${label}`} />
        </div>
        <pre
          tabIndex={0}
          role="group"
          aria-label={label}
          className="max-h-[60vh] overflow-auto p-2.5 pr-9 font-mono text-xs whitespace-pre-wrap [overflow-wrap:anywhere]"
        >
          {shown || "(empty)"}
        </pre>
      </div>
      {more && (
        <Button className="mt-1.5 h-7" disabled={busy} onClick={load}>
          {busy ? "Loading" : `Show ${rest ? "more" : "all"} of ${bytes(text.bytes)}`}
        </Button>
      )}
      {problem && <p className="mt-1 text-xs text-err">{problem}</p>}
    </div>
  );
}
