#!/bin/sh
# Succeeds when Node >= 20 and npm are on PATH.
command -v npm >/dev/null 2>&1 &&
  node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' 2>/dev/null
