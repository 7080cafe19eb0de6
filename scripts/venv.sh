#!/usr/bin/env bash
# Makes the virtual environment FOLDER from the lock, and then the file STAMP: venv.sh FOLDER STAMP
set -euo pipefail
folder=$1 stamp=$2
python=${PYTHON:-python3.11}

"$python" -c 'import ensurepip, sys, venv; assert sys.version_info[:2] == (3, 11)' 2>/dev/null || {
  echo "Python 3.11 with venv is needed ($python is not that): apt-get install python3.11-venv, or make PYTHON=/path/to/python3.11" >&2
  exit 1
}
mkdir -p .cache
exec 9>.cache/venv.lock
flock 9
[ -e "$stamp" ] && exit 0
echo "[$(date +%T)] Making the virtual environment" >&2
rm -rf "$folder"
"$python" -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement requirements/dev.txt
"$folder/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
touch "$stamp"
