#!/usr/bin/env bash
# Says at once, and all at once, what this machine lacks: needed.sh local|existing
set -uo pipefail
kind=${1:-local}
missing=()

command -v git >/dev/null || missing+=("git: apt-get install git")
if [ "$kind" = existing ]; then
  command -v kubectl >/dev/null || missing+=("kubectl: it talks to your cluster")
else
  [ "$(uname -s)" = Linux ] || missing+=("Linux: the local cluster runs on nothing else; with a cluster of your own use CLUSTER=existing")
  [ "$(id -u)" = 0 ] || missing+=("root: the local cluster makes network namespaces and mounts; run it as root, or use CLUSTER=existing")
  command -v apt-get >/dev/null || missing+=("apt-get: what the local cluster needs is installed as Debian packages")
  if go=$(go env GOVERSION 2>/dev/null); then
    [ "$(printf '%s\n' go1.25 "$go" | sort -V | head -1)" = go1.25 ] ||
      missing+=("Go 1.25 or newer: it builds Kubernetes (this is $go)")
  else
    missing+=("Go 1.25 or newer: it builds Kubernetes (not found in PATH)")
  fi
  free=$(df --output=avail -BG . | tail -1 | tr -dc 0-9)
  [ "${free:-99}" -ge 15 ] || missing+=("15 GB of disk: only $free GB are free here")
fi
[ ${#missing[@]} -eq 0 ] && exit 0
echo "This machine lacks:" >&2
printf '  - %s\n' "${missing[@]}" >&2
exit 1
