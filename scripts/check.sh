#!/bin/sh
# What CI asks of the text of the code. Runs every check, names each that fails, and fails when one did.
export PYRIGHT_PYTHON_IGNORE_WARNINGS=1
failed=""
run() {
  name=$1
  shift
  echo "== $name" >&2
  "$@" || failed="$failed, $name"
}
run "format" .venv/bin/ruff format --check .
run "lint" .venv/bin/ruff check .
run "types" .venv/bin/pyright
run "import contracts" .venv/bin/lint-imports
run "generated files" .venv/bin/python scripts/generate.py --check
if [ "$NODE_OK" = yes ]; then
  run "front end" npm --prefix src/frontend run check
fi
if [ -n "$failed" ]; then
  echo "error: ${failed#, } (see above)" >&2
  exit 1
fi
echo "all checks passed" >&2
