#!/usr/bin/env bash
# Everything that can be said about the code without running it. All checks run; one that fails fails the whole.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
failed=()

check() {
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    echo "ok      $name"
  else
    echo "FAILED  $name"
    sed 's/^/        /' <<<"$output"
    failed+=("$name")
  fi
}

check "lint" "$bin/ruff" check --quiet .
check "format" "$bin/ruff" format --check --quiet .
check "types" "$bin/mypy" --no-error-summary
check "import contracts" "$bin/lint-imports" --no-logo
check "crds/ is what the models say" "$bin/python" -m lepton_operator.crdgen --check
check "docs/api and deploy/argocd are what models and states say" "$bin/python" scripts/docs.py --check
check "the messages of serve/rpc/protos are what the .proto files say" "$bin/python" scripts/protos.py --check
for script in scripts/*.sh images/install.sh .ci/run; do
  check "syntax of $script" bash -n "$script"
done
[ ${#failed[@]} -eq 0 ]
