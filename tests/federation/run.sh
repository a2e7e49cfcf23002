#!/usr/bin/env bash
# Two real nodes behind a real LiteLLM proxy, and behind the federation's gateway, while one is killed.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/venv.sh
venv tests/federation federation
cargo build --quiet -p mobile-cli
exec "$python" -m pytest -p no:cacheprovider "$@" tests/federation
