import { createRootRoute, createRoute, createRouter, lazyRouteComponent } from "@tanstack/react-router";
import { NotFound } from "./shell/NotFound";
import { Shell } from "./shell/Shell";
import { parseSelection } from "./shell/selection";
import { Workspace } from "./shell/Workspace";

const root = createRootRoute({ component: Shell, notFoundComponent: NotFound });

const start = createRoute({
  getParentRoute: () => root,
  path: "/",
  component: lazyRouteComponent(() => import("./welcome/Welcome"), "Welcome"),
});

const session = createRoute({
  getParentRoute: () => root,
  path: "/s/$sid",
  validateSearch: parseSelection,
  component: Workspace,
});

const models = createRoute({
  getParentRoute: () => root,
  path: "/settings/models",
  component: lazyRouteComponent(() => import("./settings/ModelsPage"), "ModelsPage"),
});

const compare = createRoute({
  getParentRoute: () => root,
  path: "/compare",
  validateSearch: (search: Record<string, unknown>): { a?: string; b?: string } => ({
    a: typeof search.a === "string" ? search.a : undefined,
    b: typeof search.b === "string" ? search.b : undefined,
  }),
  component: lazyRouteComponent(() => import("./compare/ComparePage"), "ComparePage"),
});

export const router = createRouter({
  routeTree: root.addChildren([start, session, compare, models]),
  defaultPreload: "intent",
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
