#!/usr/bin/env bash
# The app end to end in a real window without a display.
#   tests/app/run.sh [APP]     APP: target/debug/mobile-app where it is not given; the hub of the tests in examples/ beside it
# SHOTS=folder keeps screenshots, TESTS=file runs only that. Needs xvfb, openbox, dbus-x11, gdbus and webkit2gtk-driver;
# installs tauri-driver once.
set -euo pipefail
cd "$(dirname "$0")/../.."
APP=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/debug/mobile-app}")
tools=target/tools
driver=$tools/bin/tauri-driver
[ -x "$driver" ] || env -u CARGO_TARGET_DIR cargo install --quiet --locked tauri-driver --version 2.1.0 --root "$tools"
TAURI_DRIVER=$(realpath "$driver")
HUB=$(realpath "$(dirname "$APP")/examples/hub")
TESTS=${TESTS:-tests/app/*.test.mjs}
export APP TAURI_DRIVER HUB TESTS
# WebKit takes the locale C for a language and has none of that name; a system may have no other, so the page must cope.
locale=C
# Without a window manager no window is ever in front, and WebKit draws none that is not.
exec timeout --kill-after=5 600 env LC_ALL=$locale xvfb-run --auto-servernum --server-args='-screen 0 1280x900x24' \
  dbus-run-session -- sh -c 'openbox & exec node --test --test-concurrency=1 $TESTS'
