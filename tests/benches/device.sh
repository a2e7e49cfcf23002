#!/usr/bin/env bash
# Prepares an NVIDIA machine that reaches no registry: MLX's CUDA wheels and the program were carried to the folder $1.
# Sourced; leaves `mobile` and mlx-lm's Python ready to run.
cd "$1" || exit 1
if [ ! -d site ]; then
  cat w.* > mlx_cuda_13-0.32.2-py3-none-manylinux_2_35_x86_64.whl
  python3 -m pip install -q --no-index --no-deps --no-compile --target site ./*.whl
  xz -df mobile.xz && chmod +x mobile
fi
libraries=$(python3 -c 'import nvidia, pathlib; print(":".join(str(p) for p in pathlib.Path(nvidia.__path__[0]).glob("*/lib")))')
export PYTHONPATH=$PWD/site LD_LIBRARY_PATH=$PWD/site/mlx/lib:$libraries MOBILE_HOME=$PWD/home PATH=$PWD:$PATH
