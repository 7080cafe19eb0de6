#!/usr/bin/env bash
# Builds the local cluster and the images at the same time: one mostly computes, the other mostly waits
# for downloads. Packages are installed before, because apt-get runs once at a time.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python
log=${LEPTON_LOGS:-$PWD/.cluster-logs}
mkdir -p "$log"

"$python" images/build.py prepare
"$python" tests/cluster/cli.py build &
cluster=$!
trap 'kill "$cluster" 2>/dev/null || true' EXIT INT TERM
"$python" images/build.py build
wait "$cluster"
trap - EXIT
