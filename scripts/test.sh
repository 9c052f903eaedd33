#!/bin/sh
# Every test that needs no paid account. pytest comes last, so that its closing lines are the last thing on the screen.
# Called by `make test`; with CI set nothing may be skipped for want of a tool.
status=0
if [ "$NODE_OK" = yes ]; then
  CHROMIUM=$(sh scripts/chromium.sh) || { CHROMIUM=; [ -z "$CI" ] || status=1; }
  [ -z "$CHROMIUM" ] || export CHROMIUM
  (cd src/frontend && npm test) || status=1
  if [ -n "$CHROMIUM" ]; then
    (cd src/frontend && npm run --silent e2e && npm run --silent gates) || status=1
  fi
else
  echo "the tests of the page and of the browser are skipped: Node >= 20 with npm was not found" >&2
fi
# shellcheck disable=SC2086  # PYTEST_ARGS is a list of words
.venv/bin/python -m pytest -m "not daytona" $PYTEST_ARGS || status=1
exit $status
