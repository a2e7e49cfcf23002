#!/usr/bin/env bash
# Fuzzes the readers of a checkpoint's files, one target after the other: run.sh [SECONDS [TARGET...]]
# Wants cargo-fuzz, a nightly toolchain and, on Linux, MLX prepared by `make setup`. No sanitizer: the readers are safe
# Rust, and what is looked for is panics, overflows, and inputs that take too long (10 s) or too much memory (1 GB).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
seconds=${1:-60}
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || targets=(config header index)
fixtures=../../tests/fixtures/micro
cp -u ../../Cargo.lock Cargo.lock # the versions that the project builds with
export LD_LIBRARY_PATH=$here/../../target/mlx/site/mlx/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
for target in "${targets[@]}"; do
  corpus=corpus/$target
  mkdir -p "$corpus"
  for model in "$fixtures"/*/; do
    name=$(basename "$model")
    case $target in
      config) cp "$model/config.json" "$corpus/$name" ;;
      index) [ ! -e "$model/model.safetensors.index.json" ] || cp "$model/model.safetensors.index.json" "$corpus/$name" ;;
      header)
        for file in "$model"*.safetensors; do
          python3 - "$file" "$corpus/$name-$(basename "$file")" <<'PY'
import sys
data = open(sys.argv[1], "rb").read()
length = int.from_bytes(data[:8], "little")
open(sys.argv[2], "wb").write(b"j" + data[8 : 8 + length])
PY
        done
        ;;
    esac
  done
  cargo +nightly fuzz run --fuzz-dir . --sanitizer none "$target" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1
done
