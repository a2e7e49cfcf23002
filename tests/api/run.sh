#!/usr/bin/env bash
# The official clients against `mobile serve` with the embedded model. Ends by itself after eight minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=$PWD/target/api-venv
stamp=$(sha256sum <tests/api/requirements.txt 2>/dev/null || shasum -a 256 <tests/api/requirements.txt)
if [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/api/requirements.txt
  echo "$stamp" >"$venv/stamp"
fi
cargo build --quiet -p mobile-cli
home=$(mktemp -d) # its own, lest the settings of whoever runs this take part
log=$home/log
MOBILE_HOME=$home target/debug/mobile serve --port 0 --policy full 2>"$log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$home"' EXIT
for _ in $(seq 100); do grep -qx ready "$log" && break; sleep 0.1; done
MOBILE_URL=$(grep -m 1 '^http://' "$log") || { cat "$log" >&2; exit 1; }
export MOBILE_URL MOBILE_PID=$server MOBILE_FUZZ=${MOBILE_FUZZ:-10}
"$venv/bin/python" - tests/api <<'PY'
import subprocess, sys
sys.exit(subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", sys.argv[1]], timeout=480).returncode)
PY
