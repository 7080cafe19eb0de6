#!/usr/bin/env bash
# Installs Debian's Chromium where it is missing: a test opens report.html in it. The package lists are fetched only
# when the install needs them.
set -euo pipefail
[ -x /usr/bin/chromium ] && exit 0
command -v apt-get >/dev/null || { echo "Chromium is missing: the tests expect it at /usr/bin/chromium" >&2; exit 1; }

cache=${LEPTON_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/lepton}
mkdir -p "$cache"
exec 9>"$cache/apt.lock" # the lock of all that installs packages here
flock 9
[ -x /usr/bin/chromium ] && exit 0

echo "[$(date +%T)] Installing chromium" >&2
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -q -o DPkg::Lock::Timeout=300)
install=("${apt[@]}" install -y --no-install-recommends chromium)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"${install[@]}" >"$log" 2>&1 </dev/null && exit 0
{ "${apt[@]}" update && "${install[@]}"; } >"$log" 2>&1 </dev/null || { tail -n 20 "$log" >&2; exit 1; }
