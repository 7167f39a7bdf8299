"""iptables chains of the bed; shields every other rule of the machine from being touched.

The bed's are those named KUBE-*, which kubelet and kube-proxy make, and those CNI-* whose rules name the bed's network.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Final

from cortex_testbed.errors import BedError
from cortex_testbed.node.network import NAME, PODS

FAMILIES: Final = ("iptables", "ip6tables")
ACCEPTING: Final = "CNI-TESTBED"
_MARK: Final = f'name: \\"{NAME}\\"'
"""As iptables-save writes what the bridge plugin puts into the comment of its rules."""
_TARGET: Final = re.compile(r" -[jg] (\S+)")


def kubernetes() -> list[str]:
    """The chains on this machine that a kubelet or kube-proxy made."""
    saved = "\n".join(_save(family) for family in FAMILIES)
    return sorted({name for name in _chains(saved) if name.startswith("KUBE-")})


def accept_pods() -> None:
    """Lets pods through where the machine's own policy is to drop, as beside Docker; after all other rules. Raises
    BedError."""
    jump = f'-m comment --comment "{_MARK}" -j {ACCEPTING}'
    accepted = [f"-A {ACCEPTING} {side} {PODS} -j ACCEPT" for side in ("-s", "-d")]
    jumps = [f"-A INPUT {jump}", f"-A FORWARD {jump}"]
    _restore("iptables", "\n".join(["*filter", f":{ACCEPTING} - [0:0]", *accepted, *jumps, "COMMIT", ""]))


def remove() -> None:
    """Takes away the bed's chains and the rules that lead to them. Raises BedError."""
    for family in FAMILIES:
        if wanted := removal(_save(family)):
            _restore(family, wanted)


def removal(saved: str) -> str:
    """What `iptables-restore --noflush` needs to take the bed's chains out of `saved`, the text of iptables-save."""
    return "".join(_table(lines) for lines in _tables(saved))


def _table(lines: list[str]) -> str:
    doomed = _doomed(lines)
    if not doomed:
        return ""
    rules = [line for line in lines if line.startswith("-A ") and line.split()[1] not in doomed]
    leading = [f"-D {rule[3:]}" for rule in rules if (target := _TARGET.search(rule)) and target[1] in doomed]
    emptied, removed = ([f"{flag} {chain}" for chain in doomed] for flag in ("-F", "-X"))
    return "\n".join([lines[0], *leading, *emptied, *removed, "COMMIT", ""])


def _doomed(lines: list[str]) -> list[str]:
    ours = [line for line in lines if _MARK in line]
    targets = {target[1] for line in ours if (target := _TARGET.search(line))}
    return [
        name
        for name in _chains("\n".join(lines))
        if name.startswith("KUBE-") or (name.startswith("CNI-") and name in targets)
    ]


def _chains(saved: str) -> list[str]:
    return [line[1:].split()[0] for line in saved.splitlines() if line.startswith(":")]


def _tables(saved: str) -> Iterator[list[str]]:
    lines: list[str] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            lines = [line]
        elif line == "COMMIT":
            yield lines
        else:
            lines.append(line)


def _restore(family: str, wanted: str) -> None:
    command = [f"{family}-restore", "--noflush"]
    done = subprocess.run(command, input=wanted, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BedError(f"the {family} rules of the bed cannot be changed: {done.stderr.strip()}")


def _save(family: str) -> str:
    try:
        return subprocess.run([f"{family}-save"], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""
