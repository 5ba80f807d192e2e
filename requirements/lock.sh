#!/usr/bin/env bash
# Writes the lock files from pyproject.toml: lock.sh BIN_FOLDER [pip-compile options]
#
# Each file names exact versions with the hashes of all their distributions, for every platform, and no
# place to get them from. The next lock takes the versions of the one before it.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1
shift

# Hashes must be those of the public index, not of files that happen to lie on this machine.
export PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS='' PIP_EXTRA_INDEX_URL=''
unset PIP_INDEX_URL PIP_NO_INDEX

requirements() { # what pip-compile does not read from pyproject.toml by itself
  "$bin/python" -c '
import sys, tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)
print(*project["build-system"]["requires"], sep="\n")
for group in sys.argv[1:]:
    print(*project["dependency-groups"][group], sep="\n")
' "$@"
}

compile() { # NAME [pip-compile options], with further requirements on standard input
  local lock=requirements/$1.lock
  shift
  "$bin/pip-compile" --quiet --no-config --generate-hashes --allow-unsafe --strip-extras --no-header \
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
    "$@" --output-file "$lock" pyproject.toml -
  { echo '# Made by `make lock` from pyproject.toml. Do not edit.' && cat "$lock"; } > "$lock.new"
  mv "$lock.new" "$lock"
}

requirements | compile runtime "$@"
requirements | compile local --constraint requirements/runtime.lock --extra local "$@"
requirements dev | compile dev --constraint requirements/local.lock --extra local --extra postgres "$@"
requirements | compile postgres --constraint requirements/dev.lock --extra postgres "$@"
