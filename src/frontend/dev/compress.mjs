// After the build: a .gz beside every text file, and the hashes of inline scripts for the Content-Security-Policy.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { constants, gzipSync } from "node:zlib";

const DIST = fileURLToPath(new URL("../../fleet_rlm/web/dist/", import.meta.url));

function files(folder) {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? files(path) : [path];
  });
}

for (const path of files(DIST)) {
  if (!/\.(js|css|html|svg|json)$/.test(path)) continue;
  const raw = readFileSync(path);
  if (raw.length > 1_024) writeFileSync(`${path}.gz`, gzipSync(raw, { level: constants.Z_BEST_COMPRESSION }));
}

const html = readFileSync(join(DIST, "index.html"), "utf8");
const inline = [...html.matchAll(/<script>([\s\S]*?)<\/script>/g)].map(
  ([, body]) => `sha256-${createHash("sha256").update(body).digest("base64")}`,
);
writeFileSync(join(DIST, "csp.json"), `${JSON.stringify({ script: inline })}\n`);
