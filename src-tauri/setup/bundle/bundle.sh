#!/usr/bin/env bash
# Makes MoBiLE.app and its .dmg on a Mac: src-tauri/setup/bundle/bundle.sh
# Inside: the app, the command line (Contents/MacOS/mobile) and the embedded model (Contents/Resources/olmoe-tiny).
# Signs and notarises when the variables of Tauri's bundler are set: APPLE_SIGNING_IDENTITY, and APPLE_API_ISSUER,
# APPLE_API_KEY, APPLE_API_KEY_PATH or APPLE_ID, APPLE_PASSWORD, APPLE_TEAM_ID.
set -euo pipefail
cd "$(dirname "$0")/../../.."
[ "$(uname -s)" = Darwin ] || { echo "bundle.sh: .app and .dmg are made on a Mac" >&2; exit 1; }
triple=$(rustc -vV | sed -n 's/^host: //p')
stage=$PWD/target/bundle
mkdir -p "$stage"

npm --prefix ui ci
npm --prefix ui run build

# MLX looks for its kernels beside the program, and before that nowhere: they are bundled, and signed, as a program is.
export MLX_RS_METAL_PATH=$stage/metal MACOSX_DEPLOYMENT_TARGET=14.0
cargo build --release --locked -p mobile-cli
cp target/release/mobile "$stage/mobile-$triple"
cp "$MLX_RS_METAL_PATH/mlx.metallib" "$stage/mlx.metallib-$triple"

cd src-tauri
npx --yes @tauri-apps/cli@2.12.5 build --config setup/bundle/bundle.conf.json "$@"
