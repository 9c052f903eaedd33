import { createRootRoute, createRoute, createRouter, lazyRouteComponent } from "@tanstack/react-router";
import { NotFound } from "./shell/NotFound";
import { Shell } from "./shell/Shell";
import { parseSelection } from "./shell/selection";
import { Workspace } from "./shell/Workspace";
import { Welcome } from "./welcome/Welcome";

const root = createRootRoute({ component: Shell, notFoundComponent: NotFound });

const start = createRoute({ getParentRoute: () => root, path: "/", component: Welcome });

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

export const router = createRouter({
  routeTree: root.addChildren([start, session, models]),
  defaultPreload: "intent",
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
