#!/usr/bin/env bash
# Makes MoBiLE.app and its .dmg on a Mac and looks whether they work: src-tauri/setup/bundle/bundle.sh
# Inside: the app, the command line (Contents/MacOS/mobile), the embedded model and MLX's kernels (Contents/Resources).
# Signs and notarises when the variables of Tauri's bundler are set (https://v2.tauri.app/distribute/sign/macos/):
# APPLE_SIGNING_IDENTITY, or APPLE_CERTIFICATE and APPLE_CERTIFICATE_PASSWORD; and APPLE_API_ISSUER, APPLE_API_KEY,
# APPLE_API_KEY_PATH, or APPLE_ID, APPLE_PASSWORD, APPLE_TEAM_ID. Without an identity the signature is ad hoc, which
# Apple silicon wants at least.
set -euo pipefail
cd "$(dirname "$0")/../../.."
[ "$(uname -s)" = Darwin ] || { echo "bundle.sh: .app and .dmg are made on a Mac" >&2; exit 1; }
triple=$(rustc -vV | sed -n 's/^host: //p')
stage=$PWD/target/bundle
mkdir -p "$stage"
[ -n "${APPLE_CERTIFICATE:-}" ] || export APPLE_SIGNING_IDENTITY=${APPLE_SIGNING_IDENTITY:--}

npm --prefix ui ci
npm --prefix ui run build

export MLX_RS_METAL_PATH=$stage/metal MACOSX_DEPLOYMENT_TARGET=14.0
cargo build --release --locked -p mobile-cli
cp target/release/mobile "$stage/mobile-$triple"

cd src-tauri
npx --yes @tauri-apps/cli@2.12.5 build --config setup/bundle/bundle.conf.json "$@"
cd ..

app=target/release/bundle/macos/MoBiLE.app
codesign --verify --deep --strict --verbose=2 "$app"
# Where a bundle has kernels, MLX takes those or fails.
[ -f "$app/Contents/Resources/mlx.metallib" ]
"$app/Contents/MacOS/mobile" generate --max-tokens 8 "Tell me a story."
