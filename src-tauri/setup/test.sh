#!/usr/bin/env bash
# Sets everything up and runs every check: formatting, lints, types, unit tests, parity, the commands, the UI, the app.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/packages.sh" test
source "$here/env.sh"
nextest_version=0.9.143
step() { printf '\n== %s\n' "$*"; }

step "UI: lint, types, tests, build"
(
  cd ui
  npm ci --silent --no-audit --no-fund
  npm run --silent lint && npm run --silent check && npm run --silent test && npm run --silent build
)

[ "$(uname -s)" = Linux ] && "$here/mlx-linux/setup.sh"
step "Rust: formatting"
cargo fmt --all --check
step "Rust: tests"
command -v cargo-nextest >/dev/null ||
  cargo install --quiet cargo-nextest --version "$nextest_version" --locked --root target/tools
cargo nextest run --workspace --no-tests=fail
cargo test --quiet --workspace --doc
step "Rust: lints"
cargo clippy --quiet --workspace --all-targets -- -D warnings
# With the features that the tests were built with, so that nothing but the programs themselves is built again.
cargo build --quiet --workspace --all-targets
step "UI in a browser"
if [ -x "${CHROMIUM:-/usr/bin/chromium}" ]; then (cd ui && npm run --silent e2e); else echo "skipped: no Chromium here"; fi
step "The endpoint and the official clients"
tests/api/run.sh target/debug/mobile
if [ "$(uname -s)" = Linux ]; then
  step "The app in a window"
  tests/app/run.sh
  step "The app and another computer on a network"
  tests/lan/run.sh
fi
