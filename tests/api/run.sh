#!/usr/bin/env bash
# The official clients against `mobile serve` with the embedded model. Ends by itself after eight minutes.
#   tests/api/run.sh [MOBILE]     MOBILE: a `mobile` that is built already; built where it is not given
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/venv.sh
venv tests/api api
[ $# -gt 0 ] || cargo build --quiet -p mobile-cli
mobile=$(realpath "${1:-target/debug/mobile}")
home=$(mktemp -d) # its own, lest the settings of whoever runs this take part
log=$home/log
MOBILE_HOME=$home "$mobile" serve --port 0 --policy full 2>"$log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$home"' EXIT
for _ in $(seq 100); do grep -qx ready "$log" && break; sleep 0.1; done
MOBILE_URL=$(grep -m 1 '^http://' "$log") || { cat "$log" >&2; exit 1; }
export MOBILE_URL MOBILE_PID=$server MOBILE_LOG=$log MOBILE_FUZZ=${MOBILE_FUZZ:-10}
"$python" - tests/api <<'PY'
import subprocess, sys
sys.exit(subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", sys.argv[1]], timeout=480).returncode)
PY
