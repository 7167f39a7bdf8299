"""`make bench`: retrieval through the gateway, what caches save, what the shared state and the operator cost, search
under overload.
`BENCH=scale`: that part alone.

Writes benchmarks/results/PART/*.json and a table of all results, ratios first, benchmarks/results/README.md.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

from benchmarks import cache, overload, retrieval, scale, state

RESULTS: Final = Path(__file__).parent / "results"
PARTS: Final[dict[str, ModuleType]] = {
    "retrieval": retrieval,
    "cache": cache,
    "state": state,
    "scale": scale,
    "overload": overload,
}


def main() -> int:
    """Runs what there is to run; returns the exit code."""
    wanted = os.environ.get("BENCH", "").split() or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        print(f"BENCH names {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    for name in wanted:
        if code := PARTS[name].run():
            return int(code)
    (RESULTS / "README.md").write_text(table())
    print(f"results: {(RESULTS / 'README.md').relative_to(Path.cwd())}")
    return 0


def table() -> str:
    """All results as Markdown."""
    intro = (
        "# Results of `make bench`\n\nTimes are of one noisy machine with 2 cores: compare them within one run only.\n"
    )
    return "\n".join([intro, *(part.table() for part in PARTS.values())])


if __name__ == "__main__":
    sys.exit(main())
