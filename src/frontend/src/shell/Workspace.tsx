import { lazy, Suspense, useEffect } from "react";
import { live } from "@/app";
import { Composer } from "@/composer/Composer";
import { Conversation } from "@/conversation/Conversation";
import { Inspector } from "@/inspector/Inspector";
import { ErrorBoundary } from "@/ui/ErrorBoundary";
import { Splitter } from "@/ui/Splitter";
import { useMedia } from "@/ui/useMedia";
import { useWorkspace } from "@/workspace/store";
import { Header } from "./Header";
import { NotFound } from "./NotFound";
import { useSelection, useSession } from "./selection";
import { setInspector, setInspectorWidth, useUi } from "./ui";

const SourceDialog = lazy(() => import("@/sources/SourceDialog"));
const SpanDialog = lazy(() => import("@/sources/SpanDialog"));
const ForkDialog = lazy(() => import("@/fork/ForkDialog"));
const ComparePicker = lazy(() => import("@/compare/ComparePicker"));

/** The layers over the workspace; each is fetched when it is first asked for. */
function Layers() {
  const [{ cite, span }] = useSelection();
  const forking = useUi((state) => state.forking);
  const comparing = useUi((state) => state.comparing);
  return (
    <Suspense>
      {cite !== undefined && <SourceDialog />}
      {span !== undefined && <SpanDialog />}
      {forking && <ForkDialog target={forking} />}
      {comparing && <ComparePicker turn={comparing} />}
    </Suspense>
  );
}

const MIN = 380;
const MAX = 720;

export function Workspace() {
  const sid = useSession();
  const missing = useWorkspace((state) => state.missing);
  const open = useUi((state) => state.inspectorOpen);
  const stored = useUi((state) => state.inspectorWidth);
  const wide = useMedia("(min-width: 1024px)");
  useEffect(() => {
    live.show(sid);
    return () => live.show(null);
  }, [sid]);
  useEffect(() => {
    // The sheet of a small screen covers the conversation: it starts closed.
    if (!wide) useUi.setState({ inspectorOpen: false });
  }, [wide]);
  if (missing === sid) return <NotFound />;
  const width = stored ?? Math.round(Math.min(MAX, Math.max(MIN, (innerWidth - 308) * 0.46)));
  return (
    <div className="relative flex min-h-0 min-w-0 flex-1 flex-col">
      <Header />
      <div className="flex min-h-0 flex-1">
        <main id="main" tabIndex={-1} aria-label="Conversation" className="flex min-w-0 flex-1 flex-col">
          <ErrorBoundary name="The conversation">
            <Conversation key={sid} />
          </ErrorBoundary>
          <ErrorBoundary name="The question field">
            <Composer sid={sid} />
          </ErrorBoundary>
        </main>
        {open && wide && (
          <aside aria-label="Inspector" style={{ width }} className="flex min-h-0 shrink-0">
            <Splitter
              label="Width of the inspector"
              orientation="vertical"
              value={width}
              min={MIN}
              max={MAX}
              direction={-1}
              onChange={setInspectorWidth}
            />
            <ErrorBoundary name="The inspector">
              <Inspector />
            </ErrorBoundary>
          </aside>
        )}
      </div>
      {open && !wide && (
        <div role="dialog" aria-label="Inspector" className="absolute inset-0 z-30 flex flex-col bg-bg">
          <ErrorBoundary name="The inspector">
            <Inspector onClose={() => setInspector(false)} />
          </ErrorBoundary>
        </div>
      )}
      <Layers />
    </div>
  );
}
