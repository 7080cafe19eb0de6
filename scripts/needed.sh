#!/usr/bin/env bash
# Says at once, and all at once, what this machine lacks: needed.sh local|existing
set -uo pipefail
kind=${1:-local}
HOME=${HOME:-/root}
missing=()

python=${PYTHON:-python3.11}
"$python" -c 'import ensurepip, sys, venv; assert sys.version_info[:2] == (3, 11)' 2>/dev/null ||
  missing+=("Python 3.11 with venv ($python is not that): apt-get install python3.11-venv, or make PYTHON=/path/to/python3.11")
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
  cache=${LEPTON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lepton}
  if ! ls "$cache"/images/trainer-*.tar >/dev/null 2>&1; then # the first time: what is built needs room
    for folder in . "$HOME"; do
      free=$(df --output=avail -BG "$folder" | tail -1 | tr -dc 0-9)
      [ "${free:-99}" -ge 15 ] || missing+=("15 GB of disk: only $free GB are free in $folder")
    done
  fi
fi
[ ${#missing[@]} -eq 0 ] && exit 0
echo "This machine lacks:" >&2
printf '  - %s\n' "${missing[@]}" >&2
exit 1
