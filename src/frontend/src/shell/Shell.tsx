import { Outlet, useNavigate } from "@tanstack/react-router";
import { lazy, Suspense, useEffect } from "react";
import { ApiError } from "@/api/client";
import { useStatus } from "@/api/queries";
import { ErrorBoundary } from "@/ui/ErrorBoundary";
import { useMedia } from "@/ui/useMedia";
import { useWorkspace } from "@/workspace/store";
import { ConnectionBanner } from "./ConnectionBanner";
import { listenForKeys } from "./keyboard";
import { Rail } from "./Rail";
import { SessionList } from "./SessionList";
import { SignedOut } from "./SignedOut";
import { StatusBar } from "./StatusBar";
import { useSession } from "./selection";
import { Toasts } from "./Toasts";
import { useUi } from "./ui";
import { usePageTitle } from "./usePageTitle";

const HelpSheet = lazy(() => import("./HelpSheet"));
const Palette = lazy(() => import("@/palette/Palette"));

export function Shell() {
  const helpOpen = useUi((state) => state.helpOpen);
  const paletteOpen = useUi((state) => state.paletteOpen);
  const listOpen = useUi((state) => state.listOpen);
  const narrow = useMedia("(max-width: 639px)");
  const connection = useWorkspace((state) => state.connection);
  const { error } = useStatus();
  const navigate = useNavigate();
  const sid = useSession();
  usePageTitle();
  useEffect(() => listenForKeys((to) => void navigate({ to })), [navigate]);
  useEffect(() => {
    // On a phone the list covers everything: choosing a session closes it.
    if (narrow) useUi.setState({ listOpen: false });
    void sid;
  }, [narrow, sid]);
  const signedOut =
    connection === "signed_out" ||
    (error instanceof ApiError && (error.status === 401 || error.status === 403));
  if (signedOut) return <SignedOut />;
  return (
    <div className="flex h-full flex-col">
      <a
        href="#main"
        className="sr-only focus:not-sr-only focus:absolute focus:z-50 focus:bg-raised focus:p-2"
      >
        Skip to the main part
      </a>
      <ConnectionBanner />
      <div className="flex min-h-0 flex-1 max-sm:flex-col">
        <Rail />
        {listOpen && (
          <ErrorBoundary name="The session list">
            <SessionList />
          </ErrorBoundary>
        )}
        {!(narrow && listOpen) && (
          <ErrorBoundary name="This page">
            <Outlet />
          </ErrorBoundary>
        )}
      </div>
      <StatusBar />
      <Toasts />
      <Suspense>
        {helpOpen && <HelpSheet />}
        {paletteOpen && <Palette />}
      </Suspense>
    </div>
  );
}
