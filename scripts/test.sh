#!/usr/bin/env bash
# Every check and every test, from nothing: builds the local cluster and the images, starts clusters of
# its own in .cluster-test and .cluster-lab (a demo's cluster is not touched), runs pytest, stops them.
#
# The tests from outside mostly wait for pods; all others compute. So they run beside each other, those from
# outside with the operator in .cluster-test, those that bring operators of their own in .cluster-lab; what the
# former say is shown at the end. With arguments there is one cluster and one pytest, which gets them.
# KEEP=1 leaves the clusters running.
set -Eeuo pipefail
cd "$(dirname "$0")/.."
unset KUBECONFIG
python=$PWD/.venv/bin/python
cluster=$PWD/.cluster-test
lab=$PWD/.cluster-lab
logs=$PWD/.cluster-logs
nodes=${NODES:-2}
mkdir -p "$logs"

step() { printf '[%(%T)T +%4ds] %s\n' -1 "$SECONDS" "$*"; }

finish() {
  local code=$?
  trap - EXIT INT TERM
  for group in ${builds:-} ${outside:-}; do
    kill -- "-$group" 2>/dev/null || kill "$group" 2>/dev/null || true
  done
  [ $code -eq 0 ] || rm -rf "$logs/last-failure"
  for one in "$cluster" "$lab"; do
    if [ -e "$one" ] && [ -z "${KEEP:-}" ]; then
      if [ $code -ne 0 ]; then
        mkdir -p "$logs/last-failure/${one##*/}"
        cp -r "$one"/log* "$logs/last-failure/${one##*/}/" 2>/dev/null || true
        step "The logs of the cluster are in $logs/last-failure/${one##*/}" >&2
      fi
      "$python" tests/cluster/cli.py down --dir "$one" >"$logs/down.log" 2>&1 || cat "$logs/down.log" >&2
    fi
  done
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

start() {
  step "Starting a cluster of $nodes nodes in ${1##*/}"
  "$python" tests/cluster/cli.py down --dir "$1" >"$logs/down.log" 2>&1 || true
  "$python" tests/cluster/cli.py up --dir "$1" --nodes "$nodes"
}

# pytest with the cluster in that folder: run FOLDER ARGUMENTS...
run() {
  local folder=$1 variables
  shift
  mapfile -t variables < <("$python" tests/cluster/cli.py env --dir "$folder")
  env "${variables[@]}" "$python" -m pytest "$@"
}

start "$cluster"
step "Loading the images"
mapfile -t archives < <("$python" images/build.py archives)
"$python" tests/cluster/cli.py load --dir "$cluster" "${archives[@]}"
while IFS== read -r name reference; do
  export "LEPTON_${name^^}_IMAGE=$reference"
done < <("$python" images/build.py refs)

if [ $# -gt 0 ]; then
  step "Tests"
  run "$cluster" "$@"
  exit
fi

start "$lab"
step "Tests; those from outside beside them (log: $logs/outside.log)"
failed=
set -m
run "$cluster" tests/e2e >"$logs/outside.log" 2>&1 &
outside=$!
set +m
run "$lab" tests/unit tests/states tests/cluster tests/integration || failed=1
step "Waiting for the tests from outside"
wait "$outside" || failed=1
outside=
cat "$logs/outside.log"
step "Does the operator need all of its rights?"
LEPTON_OTHER_CLUSTER=$lab run "$cluster" tests/rights || failed=1
[ -z "$failed" ]
