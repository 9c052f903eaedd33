import { Link } from "@tanstack/react-router";

export function NotFound() {
  return (
    <main id="main" tabIndex={-1} className="grid flex-1 place-items-center p-6">
      <div className="max-w-sm text-center">
        <h1 className="text-lg font-semibold">There is no such page</h1>
        <p className="mt-1 text-muted">The address may be old, or a session may have been deleted.</p>
        <Link to="/" className="mt-4 inline-block text-accent underline underline-offset-2">
          Start a new session
        </Link>
      </div>
    </main>
  );
}
