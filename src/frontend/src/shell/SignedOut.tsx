import { Logo } from "@/ui/Logo";

export function SignedOut() {
  return (
    <main className="grid h-full place-items-center p-6">
      <div className="max-w-md rounded-lg border border-line bg-panel p-6">
        <Logo size={32} />
        <h1 className="mt-4 text-lg font-semibold">This browser is not signed in</h1>
        <p className="mt-1 text-muted">
          The workspace only answers a browser that opened its link. Open the newest link that{" "}
          <code className="font-mono text-xs">fleet web</code> shows in the terminal: each works once, and
          after each use the next one is printed there.
        </p>
      </div>
    </main>
  );
}
