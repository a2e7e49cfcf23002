#!/usr/bin/env bash
# The app end to end in a real window without a display.
#   tests/app/run.sh [APP]     APP: target/debug/mobile-app where it is not given
# SHOTS=folder keeps screenshots. Needs xvfb, openbox, dbus-x11 and webkit2gtk-driver; installs tauri-driver once.
set -euo pipefail
cd "$(dirname "$0")/../.."
APP=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/debug/mobile-app}")
tools=target/tools
driver=$tools/bin/tauri-driver
[ -x "$driver" ] || env -u CARGO_TARGET_DIR cargo install --quiet --locked tauri-driver --version 2.1.0 --root "$tools"
TAURI_DRIVER=$(realpath "$driver")
export APP TAURI_DRIVER
# WebKit takes the locale C for a language, and has none of that name.
locale=en_US.UTF-8
# Without a window manager no window is ever in front, and WebKit draws none that is not.
exec timeout --kill-after=5 120 env LC_ALL=$locale xvfb-run --auto-servernum --server-args='-screen 0 1280x900x24' \
  dbus-run-session -- sh -c 'openbox & exec node --test --test-concurrency=1 tests/app/app.test.mjs'
