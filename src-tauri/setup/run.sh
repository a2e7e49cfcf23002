#!/usr/bin/env bash
# Sets everything up and shows the program at work: the app where there is a display, else an answer in the terminal.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/packages.sh"
source "$here/env.sh"
[ "$(uname -s)" = Linux ] && "$here/mlx-linux/setup.sh"
if [ "$(uname -s)" = Darwin ] || [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
  (cd ui && npm ci --silent --no-audit --no-fund && npm run --silent build)
  exec cargo run --quiet -p mobile-app -- --show
fi
cargo build --quiet -p mobile-cli
echo "There is no display, so here is an answer in the terminal; target/debug/mobile chat talks on."
exec target/debug/mobile generate "${PROMPT:-Tell me a story about a shy robot who finds a red balloon.}"
