#!/usr/bin/env bash
# What the app costs at rest and how soon it is there, beside a hello-world of the same Tauri on the same machine:
#   tests/benches/app.sh [idle|launch] [RUNS]     both, five runs each, where nothing is said
# PROFILE=release measures optimised builds. Linux only: reads /proc and the screen of Xvfb. Needs what tests/app/run.sh
# needs, xdotool, and ui/dist built. The hello-world is src-tauri/examples/hello.rs.
set -euo pipefail
cd "$(dirname "$0")/../.."
source src-tauri/setup/env.sh
profile=${PROFILE:-debug}
flags=()
[ "$profile" = debug ] || flags=(--profile "$profile")
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
# With the features that the tests are built with, so that nothing is built again.
cargo build --quiet "${flags[@]}" --workspace --bins --example hello

APP=$target/$profile/mobile-app
HELLO=$target/$profile/examples/hello
SCREEN=$(mktemp -d)
trap 'rm -rf "$SCREEN"' EXIT
export APP HELLO SCREEN
LC_ALL=C xvfb-run --auto-servernum --server-args="-screen 0 1280x900x24 -fbdir $SCREEN" \
  dbus-run-session -- sh -c 'openbox & exec node tests/benches/app.mjs "$@"' sh "$@"
