#!/usr/bin/env bash
# Every check and every test, from nothing: builds the local cluster and the images, starts clusters of
# its own (a demo's cluster is not touched), runs pytest, stops them.
#
# The tests from outside mostly wait for pods, all others compute; so they run beside each other. Those from
# outside have the operator in .cluster-test, and begin when everything is built; what they say is shown at
# the end. The others bring operators of their own, into .cluster-lab.
# With arguments there is one cluster, .cluster-test, and one pytest, which gets them.
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
  [ -z "${outside:-}" ] || { kill -- "-$outside" 2>/dev/null || true; }
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

# Everything that is built, once; a little behind the tests, which have deadlines. The tests from outside wait for it.
build() {
  step "Building the cluster's binaries and the images (log: $logs/build.log)"
  nice -n 3 scripts/build-side-by-side.sh >"$logs/build.log" 2>&1 || { tail -n 40 "$logs/build.log"; return 1; }
}

# A fresh cluster in that folder.
start() {
  step "Starting a cluster of $nodes nodes in ${1##*/}"
  "$python" tests/cluster/cli.py down --dir "$1" >"$logs/down.log" 2>&1 || true
  "$python" tests/cluster/cli.py up --dir "$1" --nodes "$nodes"
}

# The cluster with the images that were built.
start_with_images() {
  local archives name reference
  start "$cluster"
  step "Loading the images"
  mapfile -t archives < <("$python" images/build.py archives)
  "$python" tests/cluster/cli.py load --dir "$cluster" "${archives[@]}"
  while IFS== read -r name reference; do
    export "LEPTON_${name^^}_IMAGE=$reference"
  done < <("$python" images/build.py refs)
}

# pytest with the cluster in that folder: run FOLDER ARGUMENTS...
run() {
  local folder=$1 variables
  shift
  mapfile -t variables < <("$python" tests/cluster/cli.py env --dir "$folder")
  env "${variables[@]}" "$python" -m pytest "$@"
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ $# -gt 0 ]; then
  scripts/browser.sh
  build
  start_with_images
  step "Tests"
  run "$cluster" "$@"
  exit
fi

scripts/browser.sh
built=$logs/built
rm -f "$built"
step "Building, and then the tests from outside, beside all that follows (log: $logs/outside.log)"
set -m
(build && touch "$built" && start_with_images && step "Tests from outside" && run "$cluster" tests/e2e) >"$logs/outside.log" 2>&1 &
outside=$!
set +m

step "Lint, types, import contracts, generated files"
scripts/verify.sh

failed=
step "Tests that need no cluster"
"$python" -m pytest tests/unit tests/states || failed=1

until [ -e "$built" ] || ! kill -0 "$outside" 2>/dev/null; do
  step "Waiting for the builds: $(tail -n 1 "$logs/build.log")"
  sleep 15
done
[ -e "$built" ] || { cat "$logs/outside.log" >&2; exit 1; }
start "$lab"
step "Tests of the cluster, and of the operator in a cluster"
run "$lab" tests/cluster tests/integration || failed=1

step "Waiting for the tests from outside"
wait "$outside" || failed=1
outside=
cat "$logs/outside.log"
step "Does the operator need all of its rights?"
LEPTON_OTHER_CLUSTER=$lab run "$cluster" tests/rights || failed=1
[ -z "$failed" ]
