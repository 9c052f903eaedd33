import { fileURLToPath } from "node:url";
import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const server = process.env.FLEET_SERVER ?? "http://127.0.0.1:8000";

export default defineConfig({
  plugins: [react(), tailwindcss()],
  resolve: {
    alias: { "@": here("./src"), "@ungap/structured-clone": here("./src/conversation/clone.ts") },
  },
  define: { __APP_VERSION__: JSON.stringify(process.env.npm_package_version ?? "0.1.0") },
  build: {
    outDir: here("../fleet_rlm/web/dist"),
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
    rolldownOptions: {
      output: {
        // What every screen needs in one file: a dozen small shared chunks compress worse and cost requests.
        advancedChunks: {
          groups: [
            {
              name: "base",
              test: /node_modules[\\/](react|react-dom|scheduler|@tanstack|zustand|clsx)[\\/]|createLucideIcon|src[\\/](app\.ts|workspace|transport|shell[\\/](ui|selection|keyboard)\.ts|api[\\/](client|resources|queries)|ui[\\/](Button|layer|StatusIcon|useNow|CopyButton|Popover|Menu)\.tsx?)/,
            },
          ],
        },
      },
    },
  },
  server: {
    host: "127.0.0.1",
    proxy: {
      "/api": { target: server, ws: true, changeOrigin: false },
      "/health": server,
      "/ready": server,
    },
  },
  test: {
    environment: "happy-dom",
    include: ["tests/**/*.test.{ts,tsx}"],
    testTimeout: 30_000,
    setupFiles: ["tests/setup.ts"],
  },
});
