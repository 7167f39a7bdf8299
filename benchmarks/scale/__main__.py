"""Other numbers than `make bench` takes: `python -m benchmarks.scale --indexes 5000 --idle 600 --alone`."""

from __future__ import annotations

import argparse

from benchmarks import scale

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--indexes", type=int, default=1000)
    parser.add_argument("--idle", type=float, default=0.0, help="seconds to watch it doing nothing")
    parser.add_argument("--alone", action="store_true", help="without the controller in Go")
    arguments = parser.parse_args()
    scale.run(arguments.indexes, arguments.idle, alone=arguments.alone)
    print(scale.table())
