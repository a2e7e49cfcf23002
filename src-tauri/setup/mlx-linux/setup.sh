#!/usr/bin/env bash
# Prepares MLX for Linux x86-64 under target/mlx and points Cargo at it (.cargo/config.toml).
#
# mlx-sys builds on macOS only: its build script links objc and Foundation and fetches MLX's source. Cargo can be
# told to skip the build script of a crate with a `links` key and to use libraries that are there already; this
# makes them: libmlx.so from MLX's own wheel, mlx-c from the source inside mlx-sys, and what mlx-rs expects besides.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
prefix=$root/target/mlx
config=$root/.cargo/config.toml
bindgen_version=0.72.1

stamp=$( (cat "$here"/*; grep -A 3 '^name = "mlx-sys"' "$root/Cargo.lock") | sha256sum | cut -d' ' -f1)-$root
if [ "$(cat "$prefix/stamp" 2>/dev/null)" = "$stamp" ] && [ -e "$config" ]; then exit 0; fi
echo "Preparing MLX for Linux in target/mlx (once, about two minutes)"
mkdir -p "$prefix/lib" "$root/.cargo"
rm -f "$prefix/stamp"

python3 -m pip install --quiet --no-deps --only-binary=:all: --require-hashes --upgrade \
  --disable-pip-version-check --root-user-action=ignore --target "$prefix/site" -r "$here/requirements.txt"
mlx=$prefix/site/mlx

sys=$(dirname "$(cargo metadata --quiet --manifest-path "$root/Cargo.toml" --format-version 1 --locked |
  python3 -c 'import json, sys
print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "mlx-sys"))')")

cmake -S "$sys/src/mlx-c" -B "$prefix/mlx-c" -DCMAKE_BUILD_TYPE=Release -DMLX_C_USE_SYSTEM_MLX=ON \
  -DMLX_C_BUILD_EXAMPLES=OFF -DMLX_DIR="$mlx/share/cmake/MLX" \
  -DCMAKE_CXX_FLAGS="-include $here/format.h" >"$prefix/cmake.log"
cmake --build "$prefix/mlx-c" --parallel "$(nproc)" >>"$prefix/cmake.log"
g++ -std=c++20 -O2 -fPIC -I "$sys/src/mlx-c" -I "$mlx/include" -c "$here/missing.cpp" -o "$prefix/lib/missing.o"
cp "$prefix/mlx-c/libmlxc.a" "$prefix/lib/libmlxc.a"
ar r "$prefix/lib/libmlxc.a" "$prefix/lib/missing.o"

# The options of mlx-sys's own build script, over one header that includes them all.
for header in "$sys"/src/mlx-c/mlx/c/*.h; do echo "#include \"$header\""; done >"$prefix/all.h"
bindgen=$root/target/tools/bin/bindgen
[ -x "$bindgen" ] || cargo install --quiet bindgen-cli --version "$bindgen_version" --locked --root "$root/target/tools"
"$bindgen" "$prefix/all.h" --rust-target 1.73 --blocklist-function malloc --blocklist-function realloc \
  -o "$prefix/lib/bindings.rs" -- -I"$sys/src/mlx-c"
cat "$here/half.rs" >>"$prefix/lib/bindings.rs"

cat >"$config" <<TOML
# Written by src-tauri/setup/mlx-linux/setup.sh: mlx-sys's build script knows macOS only, this stands in for it.
[target.x86_64-unknown-linux-gnu.mlx]
rustc-link-search = ["native=$prefix/lib", "native=$mlx/lib"]
rustc-link-lib = ["static=mlxc", "dylib=mlx", "dylib=stdc++"]
rustc-env = { OUT_DIR = "$prefix/lib" }

[target.x86_64-unknown-linux-gnu]
rustflags = ["-C", "link-arg=-Wl,-rpath,$mlx/lib"]
TOML
echo "$stamp" >"$prefix/stamp"
