#!/usr/bin/env bash
# Two computers on one network: the app in its window on the first, `mobile serve` on the second. Each is a network
# namespace with a name of its own, a pair of virtual Ethernet devices is the cable between them, and nothing of it is left
# when the test ends.
#   tests/lan/run.sh [APP]     as tests/app/run.sh, whose needs it has, and `ip`; without namespaces it says so and ends
set -euo pipefail
cd "$(dirname "$0")/../.."
# A mount of its own too: what the first system has under /sys/class/net is not this network's.
space=(unshare --net --uts --mount)
# Whoever is not root is, among namespaces of their own, where the system lets them.
[ "$(id -u)" -eq 0 ] || space+=(--map-root-user)
if ! command -v ip >/dev/null || ! "${space[@]}" true 2>/dev/null; then
  echo "skipped: no network namespaces here"
  exit 0
fi
export TESTS=tests/lan/lan.test.mjs
exec "${space[@]}" sh -c 'mount -t sysfs sysfs /sys && hostname lan-one && ip link set lo up && exec tests/app/run.sh "$@"' sh "$@"
