#!/bin/sh
# Runs a command with a Node.js that is new enough: this machine's, else one from the Python package index, which
# is kept outside of the checkout. Usage: with-node.sh PYTHON COMMAND...
set -eu
python=$1
shift
lock=$(dirname "$0")/node.lock
cache=${XDG_CACHE_HOME:-$HOME/.cache}/agent-service-tests/node-$(cksum < "$lock" | cut -d' ' -f1)

fits() {
  node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' \
    2>/dev/null && npm --version >/dev/null 2>&1
}

if ! fits; then
  if [ ! -e "$cache/complete" ]; then
    echo "==> No Node.js 20.19 or newer with npm here: getting one into $cache (once)"
    rm -rf "$cache"
    "$python" -m venv "$cache"
    "$cache/bin/python" -m pip --disable-pip-version-check --quiet install --require-hashes --only-binary :all: -r "$lock" || {
      echo "Install Node.js 20.19 or newer with npm, from https://nodejs.org or your system, and try again." >&2
      exit 1
    }
    touch "$cache/complete"
  fi
  PATH=$cache/bin:$PATH
  export PATH
fi
exec "$@"
