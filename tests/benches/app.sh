#!/usr/bin/env bash
# What the app costs at rest and how soon it is there, beside a hello-world of the same Tauri on the same machine:
#   tests/benches/app.sh [idle|launch] [RUNS]     both, five runs each, where nothing is said
# PROFILE=release measures optimised builds. Linux only: reads /proc and the screen of Xvfb. Needs what tests/app/run.sh
# needs, and ui/dist built. The hello-world is written to hello-tauri in the target folder and built beside the app.
set -euo pipefail
cd "$(dirname "$0")/../.."
source src-tauri/setup/env.sh
profile=${PROFILE:-debug}
flags=()
[ "$profile" = debug ] || flags=(--profile "$profile")
tauri=$(sed -n '/^name = "tauri"$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)
build=$(sed -n '/^name = "tauri-build"$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
hello=$target/hello-tauri
mkdir -p "$hello/src" "$hello/page"
cp Cargo.lock "$hello/Cargo.lock"
cat >"$hello/Cargo.toml" <<TOML
[package]
name = "hello-tauri"
version = "0.0.0"
edition = "2024"
[workspace]
[dependencies]
tauri = { version = "=$tauri", features = ["image-png", "macos-private-api", "tray-icon"] }
[build-dependencies]
tauri-build = "=$build"
$(sed -n '/^\[profile\.dev\]/,$p' Cargo.toml)
TOML
echo 'fn main() { tauri_build::build() }' >"$hello/build.rs"
cat >"$hello/src/main.rs" <<'RUST'
use tauri::{WebviewUrl, WebviewWindowBuilder};

fn main() {
    let hidden = std::env::args().any(|argument| argument == "--hidden");
    tauri::Builder::default()
        .setup(move |app| {
            let page = WebviewUrl::App("index.html".into());
            WebviewWindowBuilder::new(app, "main", page).inner_size(400.0, 600.0).visible(!hidden).build()?;
            Ok(())
        })
        .run(tauri::generate_context!())
        .expect("it runs");
}
RUST
echo '<!doctype html><title>Hello</title><h1>Hello, world</h1>' >"$hello/page/index.html"
cat >"$hello/tauri.conf.json" <<JSON
{
  "identifier": "org.example.hello",
  "build": { "frontendDist": "page" },
  "app": { "macOSPrivateApi": true, "windows": [] },
  "bundle": { "icon": ["$PWD/icons/32x32.png"] }
}
JSON

cargo build --quiet "${flags[@]}" -p mobile-app
CARGO_TARGET_DIR=$target cargo build --quiet "${flags[@]}" --manifest-path "$hello/Cargo.toml"

APP=$target/$profile/mobile-app
HELLO=$target/$profile/hello-tauri
SCREEN=$(mktemp -d)
trap 'rm -rf "$SCREEN"' EXIT
export APP HELLO SCREEN
LC_ALL=C xvfb-run --auto-servernum --server-args="-screen 0 1280x900x24 -fbdir $SCREEN" \
  dbus-run-session -- sh -c 'openbox & exec node tests/benches/app.mjs "$@"' sh "$@"
