#!/usr/bin/env bash
# Two real nodes behind a real LiteLLM proxy, and behind the federation's gateway, while one is killed.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=$PWD/target/federation-venv
stamp=$(sha256sum <tests/federation/requirements.txt 2>/dev/null || shasum -a 256 <tests/federation/requirements.txt)
if [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/federation/requirements.txt
  echo "$stamp" >"$venv/stamp"
fi
cargo build --quiet -p mobile-cli
exec "$venv/bin/python" -m pytest -p no:cacheprovider "$@" tests/federation
