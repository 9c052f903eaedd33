import { FileSearch, FolderSearch, ScrollText } from "lucide-react";
import { lazy, type ReactNode, Suspense, useEffect, useState } from "react";
import { useStatus } from "@/api/queries";
import { live } from "@/app";
import { Composer } from "@/composer/Composer";
import { draftKey, useDrafts } from "@/composer/drafts";
import { DemoChip } from "@/shell/DemoChip";
import { Logo } from "@/ui/Logo";
import { loadSampleLog, pick } from "./samples";

const SetupCard = lazy(() => import("./SetupCard"));

const KEY = draftKey(null);

function Starter(props: { icon: ReactNode; title: string; note: string; onClick: () => void }) {
  return (
    <button
      type="button"
      className="flex min-w-0 flex-col items-start gap-1.5 rounded-lg border border-line bg-panel p-3 text-left transition-colors hover:border-line-strong hover:bg-sunken"
      onClick={props.onClick}
    >
      <span className="text-accent">{props.icon}</span>
      <span className="font-medium">{props.title}</span>
      <span className="text-xs text-muted">{props.note}</span>
    </button>
  );
}

/** The start page: what this is, three real ways to begin, and the question field. */
export function Welcome() {
  const { data: status } = useStatus();
  const held = useDrafts((state) => state.held === KEY);
  const [busy, setBusy] = useState(false);
  useEffect(() => live.show(null), []);
  const sample = async () => {
    setBusy(true);
    await loadSampleLog(KEY);
    setBusy(false);
  };
  return (
    <main
      id="main"
      tabIndex={-1}
      aria-label="Start"
      className="flex min-h-0 min-w-0 flex-1 flex-col overflow-y-auto"
    >
      <div className="mx-auto mt-auto w-full max-w-[760px] px-4 pt-8 pb-5">
        <div className="flex items-center gap-3">
          <Logo size={36} />
          {status?.demo && <DemoChip />}
        </div>
        <h1 className="mt-4 text-2xl font-semibold tracking-tight text-balance">
          Ask about more than fits into a model
        </h1>
        <p className="mt-1 max-w-[60ch] text-base text-muted">
          Code in isolated sandboxes reads your files piece by piece, asks sub-runs, and answers with file and
          line. You see every step.
        </p>
        {status && !status.configured && !held ? (
          <div className="mt-5">
            <Suspense fallback={<div className="h-40" />}>
              <SetupCard />
            </Suspense>
          </div>
        ) : (
          <div className="mt-5 grid grid-cols-1 gap-2.5 sm:grid-cols-3">
            <Starter
              icon={<FolderSearch size={18} strokeWidth={1.75} aria-hidden="true" />}
              title="Ask over a folder"
              note="Source code, notes or logs: every answer names its file and line."
              onClick={() => pick(KEY, true, "Where is the retry logic, and what makes it give up?")}
            />
            <Starter
              icon={<FileSearch size={18} strokeWidth={1.75} aria-hidden="true" />}
              title="Find a fact in a long file"
              note="Any text up to 2 GB. It is mounted, never put into a prompt."
              onClick={() => pick(KEY, false, "")}
            />
            <Starter
              icon={<ScrollText size={18} strokeWidth={1.75} aria-hidden="true" />}
              title={busy ? "Making the sample" : "Try it on a sample"}
              note="A log of 20,000 lines with one that matters."
              onClick={() => void sample()}
            />
          </div>
        )}
      </div>
      <div className="mb-auto w-full pb-6">
        <Composer sid={null} autoFocus />
      </div>
    </main>
  );
}
