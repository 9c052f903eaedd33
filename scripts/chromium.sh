#!/bin/sh
# Prints the path of a Chromium for the browser tests. Where there is none and this is root on a machine with
# apt-get, installs the distribution's. Otherwise one line on stderr says what is missing, and the exit status is 1.
for name in "$CHROMIUM" chromium chromium-browser google-chrome google-chrome-stable; do
  if [ -n "$name" ] && path=$(command -v "$name" 2>/dev/null); then
    echo "$path"
    exit 0
  fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing Chromium for the browser tests" >&2
  if { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >&2 &&
    command -v chromium; then
    exit 0
  fi
fi
echo "Chromium was not found and could not be installed: the browser tests need it (install it, or set CHROMIUM=/path)" >&2
exit 1
