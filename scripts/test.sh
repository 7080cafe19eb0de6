#!/usr/bin/env bash
# Every check and every test, from nothing: builds the local cluster and the images, starts a cluster of
# its own in .cluster-test (a demo's cluster is not touched), runs pytest, stops the cluster.
# Arguments go to pytest. KEEP=1 leaves the cluster running.
set -Eeuo pipefail
cd "$(dirname "$0")/.."
unset KUBECONFIG
python=$PWD/.venv/bin/python
cluster=$PWD/.cluster-test
logs=$PWD/.cluster-logs
nodes=${NODES:-2}
mkdir -p "$logs"

step() { printf '[%(%T)T +%4ds] %s\n' -1 "$SECONDS" "$*"; }

finish() {
  local code=$?
  trap - EXIT INT TERM
  [ -z "${builds:-}" ] || { kill -- "-$builds" 2>/dev/null || kill "$builds" 2>/dev/null || true; }
  if [ -e "$cluster" ] && [ -z "${KEEP:-}" ]; then
    if [ $code -ne 0 ]; then
      rm -rf "$logs/last-failure" && mkdir -p "$logs/last-failure"
      cp -r "$cluster"/log* "$logs/last-failure/" 2>/dev/null || true
      step "The logs of the cluster are in $logs/last-failure" >&2
    fi
    "$python" tests/cluster/cli.py down --dir "$cluster" >"$logs/down.log" 2>&1 || cat "$logs/down.log" >&2
  fi
  exit $code
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step "Building the cluster's binaries and the images in the background"
set -m
scripts/build-side-by-side.sh >"$logs/build.log" 2>&1 &
builds=$!
set +m

scripts/browser.sh

step "Lint, types, import contracts, generated files"
scripts/verify.sh

step "Waiting for the builds (log: $logs/build.log)"
seen=0
while kill -0 "$builds" 2>/dev/null; do
  sleep 5
  lines=$(wc -l <"$logs/build.log")
  if [ "$lines" -gt "$seen" ]; then
    tail -n +$((seen + 1)) "$logs/build.log" | tail -n 20 | sed 's/^/    /'
    seen=$lines
  fi
done
wait "$builds" || { tail -n 40 "$logs/build.log" >&2; builds=; exit 1; }
builds=

step "Starting a cluster of $nodes nodes"
"$python" tests/cluster/cli.py down --dir "$cluster" >"$logs/down.log" 2>&1 || true
"$python" tests/cluster/cli.py up --dir "$cluster" --nodes "$nodes"

step "Loading the images"
mapfile -t archives < <("$python" images/build.py archives)
"$python" tests/cluster/cli.py load --dir "$cluster" "${archives[@]}"

step "Tests"
set -a
eval "$("$python" tests/cluster/cli.py env --dir "$cluster")"
set +a
while IFS== read -r name reference; do
  export "LEPTON_${name^^}_IMAGE=$reference"
done < <("$python" images/build.py refs)
"$python" -m pytest "$@"
