#!/usr/bin/env bash
# Resolves pyproject.toml into requirements/*.txt. The later locks follow the earlier ones, so that a
# package has one version everywhere. Versions stay unless --upgrade is given.
set -euo pipefail
cd "$(dirname "$0")/.."
compile=(.venv/bin/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url
  --no-annotate --custom-compile-command "make lock" "$@")

constraints=()
for extra in trainer server operator dev; do
  "${compile[@]}" pyproject.toml --extra "$extra" "${constraints[@]}" --output-file "requirements/$extra.txt"
  constraints+=(--constraint "requirements/$extra.txt")
done
"${compile[@]}" --no-deps requirements/builtin.in --output-file requirements/builtin.txt
