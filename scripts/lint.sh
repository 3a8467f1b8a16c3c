#!/usr/bin/env bash
# Style, types and import contracts. Argument: the environment's bin folder.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1:-.venv/bin}
if [ -e platform/__init__.py ]; then
  echo "platform/__init__.py exists: it shadows Python's own platform module. Remove it." >&2
  exit 1
fi
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/pyright" --pythonpath "$bin/python"
"$bin/lint-imports" --config pyproject.toml
