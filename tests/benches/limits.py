"""A command held to so much memory, page cache included, and to so many bytes a second from a disk. Linux, as root.

    python limits.py --memory 8e9 --read-rate 5e8 --disk /tmp -- mobile generate "Hello"

Both hierarchies of control groups are known; the figures of STREAMING.md were taken on the older one. Prints the most
memory that was used."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OLDER = (ROOT / "memory").is_dir()


def device_of(path: Path) -> str:
    """The number of the whole disk that a file is on."""
    number = path.stat().st_dev
    here = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    disk = here.parent if (here / "partition").exists() else here
    return (disk / "dev").read_text().strip()


@contextlib.contextmanager
def group(memory: int | None = None, read_rate: int | None = None, disk: Path = Path("/")) -> Iterator[list[Path]]:
    """A new control group: the folders that a process joins by writing its number into their `cgroup.procs`."""
    name = f"bench-{os.getpid()}-{time.monotonic_ns()}"
    folders = {c: ROOT / c / name for c in ("memory", "blkio")} if OLDER else dict.fromkeys(("memory", "blkio"), ROOT / name)
    for folder in dict.fromkeys(folders.values()):
        folder.mkdir()
    try:
        if memory:
            limit_memory(folders["memory"], memory)
        if read_rate:
            rate = f"{device_of(disk)} {read_rate}" if OLDER else f"{device_of(disk)} rbps={read_rate}"
            (folders["blkio"] / ("blkio.throttle.read_bps_device" if OLDER else "io.max")).write_text(rate)
        yield list(dict.fromkeys(folders.values()))
    finally:
        for folder in dict.fromkeys(folders.values()):
            folder.rmdir()


def limit_memory(folder: Path, memory: int) -> None:
    (folder / ("memory.limit_in_bytes" if OLDER else "memory.max")).write_text(str(memory))


def peak(folder: Path) -> int:
    return int((folder / ("memory.max_usage_in_bytes" if OLDER else "memory.peak")).read_text())


def join(folders: list[Path]) -> None:
    for folder in folders:
        (folder / "cgroup.procs").write_text(str(os.getpid()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", type=float, help="bytes")
    parser.add_argument("--read-rate", type=float, help="bytes a second")
    parser.add_argument("--disk", type=Path, default=Path("/"), help="a file on the disk")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    with group(int(args.memory or 0), int(args.read_rate or 0), args.disk) as folders:
        code = subprocess.run(args.command, preexec_fn=lambda: join(folders)).returncode
        own = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        said = f"most memory: {own / 1e9:.2f} GB of the process, {peak(folders[0]) / 1e9:.2f} GB with its page cache"
        print(said, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
