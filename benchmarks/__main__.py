"""`python -m benchmarks`."""

from __future__ import annotations

from benchmarks.commands import bench

if __name__ == "__main__":
    bench(prog_name="python -m benchmarks")
