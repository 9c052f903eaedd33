import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { live, queries } from "./app";
import { router } from "./router";
import { watchTheme } from "./shell/theme";
import "./styles/index.css";

watchTheme();
live.start();
addEventListener("online", () => live.nudge());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") live.nudge();
});

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={queries}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </StrictMode>,
  );
}
