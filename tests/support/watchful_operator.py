"""`python -m watchful_operator`: the operator, which finds its watches silent or away four times as soon.

How long that takes follows from the Lease's duration, and a Lease so short that a test could wait for it would be lost
to any pause of the machine.
"""

from __future__ import annotations

from cortex_operator import main
from cortex_operator.watches import Watches

SOONER = 4.0


def run() -> None:
    """Runs the operator."""
    main.Watches = lambda expected, silence: Watches(expected, silence / SOONER)  # type: ignore[attr-defined,misc,assignment]
    main.main()


if __name__ == "__main__":
    run()
