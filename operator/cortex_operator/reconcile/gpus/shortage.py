"""One sentence on a pod that waits for a GPU: what it asks for, which nodes come closest and what each lacks, who holds
the GPUs there, and what would unblock it. The scheduler decides, this explains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from cortex_kinds.conditions import MESSAGE_LIMIT, truncate
from cortex_kinds.gpu import GPU

from cortex_operator.cluster import Object
from cortex_operator.manifests.gpu import is_gpu
from cortex_operator.reconcile.gpus.demand import allocatable, demand
from cortex_operator.reconcile.gpus.fit import Lacks, lacks, unforeseen
from cortex_operator.reconcile.gpus.holders import Room
from cortex_operator.reconcile.gpus.remedies import proposals
from cortex_operator.reconcile.pods import condition
from cortex_operator.reconcile.words import counted

_GROUPS: Final = 4
_NAMED: Final = 4
"""Nodes, holders and other GPUs that are named at most."""


@dataclass(frozen=True)
class Shortage:
    """Why a pod has no node. `fits`: the nodes that have room now, where nothing but that decides; `roomy`: some have
    room, whatever else decides; `never`: no node could take it if it were empty."""

    message: str
    fits: tuple[str, ...] = ()
    roomy: bool = False
    never: bool = False


def shortage(pod: Object, gpu: GPU | None, room: Room) -> Shortage:
    """About a pod that has no node and may not exist yet. `gpu`: its `spec.gpu`, for proposals what to change there.
    The message has at most 1,024 characters."""
    asked = _asked(pod, gpu)
    if held_back := _held_back(pod):
        return Shortage(truncate(f"{asked}: {held_back}"))
    wanted = [name for name, amount in demand(pod).items() if is_gpu(name) and amount > 0]
    nodes = [node for node in room.nodes if all(allocatable(node).get(name, 0) > 0 for name in wanted)]
    if not nodes:
        return Shortage(truncate(f"{asked}: {_none(wanted, room.nodes)}"), never=True)
    found = sorted((lacks(pod, node, room) for node in nodes), key=lambda one: (one.distance, one.node))
    if fits := tuple(one.node for one in found if one.fits):
        return _room(
            asked, fits, unforeseen(pod, room), refused=condition(pod, "PodScheduled").get("status") == "False"
        )
    unblock = [*_unblock(found), *(proposals(pod, gpu, nodes, room) if gpu is not None and not room.unseen else ())]
    return Shortage(_sentence(asked, list(_groups(found, wanted, room)), unblock), never=bool(found[0].never))


def _asked(pod: Object, gpu: GPU | None) -> str:
    amounts = (f"{amount} {name}" for name, amount in sorted(demand(pod).items()) if is_gpu(name) and amount > 0)
    words = f"asks for {', '.join(amounts) or 'no GPU'}"
    if gpu is not None:
        words += f" with {gpu.memory}" if gpu.memory else ""
        words += f" of {' or '.join(gpu.products[:_NAMED])}" if gpu.products else ""
        words += f", {gpu.sharing}" if gpu.sharing else ""
        words += f" in pool {gpu.pool}" if gpu.pool else ""
    return words


def _held_back(pod: Object) -> str:
    if gates := (pod.get("spec") or {}).get("schedulingGates"):
        return f"held back by the scheduling gate {', '.join(gate['name'] for gate in gates)}"
    nominated = (pod.get("status") or {}).get("nominatedNodeName")
    return f"gets node {nominated} once pods of lower priority have left it" if nominated else ""


def _none(wanted: Sequence[str], nodes: Sequence[Object]) -> str:
    there: Counter[str] = Counter()
    for node in nodes:
        there.update({name: int(amount) for name, amount in allocatable(node).items() if is_gpu(name) and amount > 0})
    others = ", ".join(f"{count} {name}" for name, count in there.most_common(_NAMED))
    return f"no node offers {' and '.join(wanted)}; " + (
        f"there are {others}" if others else "no node offers any GPU: is the vendor's device plugin there?"
    )


def _room(asked: str, fits: tuple[str, ...], open: list[str], *, refused: bool) -> Shortage:
    names = _list(fits)
    if open:
        message = f"{asked}: {names} may have room; what decides there is {' and '.join(open)}"
        return Shortage(truncate(message), roomy=True)
    look = f"node {names} looks" if len(fits) == 1 else f"nodes {names} look"
    said = f"{look} free now, and the scheduler is expected to try again" if refused else f"fits now on {names}"
    return Shortage(truncate(f"{asked}: {said}"), fits, roomy=True)


def _sentence(asked: str, groups: list[str], unblock: list[str]) -> str:
    """As many groups of nodes as there is room for: what unblocks comes last and is worth more than one of them."""
    ends = _cut(f"; {', or '.join(unblock)}", MESSAGE_LIMIT // 2)
    for count in range(len(groups), 1, -1):
        message = f"{asked}: {'; '.join(groups[:count])}{ends}"
        if len(message) <= MESSAGE_LIMIT:
            return message
    return _cut(f"{asked}: {groups[0]}", MESSAGE_LIMIT - len(ends)) + ends


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _groups(found: Sequence[Lacks], wanted: Sequence[str], room: Room) -> Iterable[str]:
    """Nodes that could not take the pod if they were empty are told apart by what they are, not by what runs there now:
    the GPUs that are held by chance would hide other kinds of node."""
    groups: dict[object, list[Lacks]] = {}
    for one in found:
        key = (one.never, one.shut) if one.never else (one.shut, one.full, one.held)
        groups.setdefault(key, []).append(one)
    for group in islice(groups.values(), _GROUPS):
        yield _group(group, wanted, room)


def _group(group: Sequence[Lacks], wanted: Sequence[str], room: Room) -> str:
    one, many = group[0], len(group) > 1
    names = f"{'nodes' if many else 'node'} {_list([each.node for each in group])}"
    held = [_held(group, wanted, room)] if all(each.held for each in group) else []
    if one.never:
        return f"{names} {'lack' if many else 'lacks'}: {', '.join((*one.never, *one.shut, *held))}"
    lacking = [*one.shut, *(f"has {each}" for each in one.full)]
    match = f"{names} {'match' if many else 'matches'}"
    if not lacking:
        return f"{match} and {held[0]}"
    return f"{match}, but {'each ' if many else ''}{', '.join(lacking)}" + (f", and {held[0]}" if held else "")


def _held(group: Sequence[Lacks], wanted: Sequence[str], room: Room) -> str:
    """`its 8 GPUs are held by index default/papers (8)`."""
    nodes = {one.node for one in group}
    there = sum(
        int(allocatable(node)[name]) for node in room.nodes if node["metadata"]["name"] in nodes for name in wanted
    )
    holders: Counter[str] = Counter()
    for one in group:
        for holder in (holder for name in wanted for holder in room.held.get((one.node, name), ())):
            holders[str(holder)] += holder.count
    named = [f"{name} ({count})" for name, count in holders.most_common(_NAMED)]
    more = f" and {len(holders) - _NAMED} more" if len(holders) > _NAMED else ""
    taken, whose = holders.total(), "their" if len(nodes) > 1 else "its"
    gpus = f"{whose} {counted(there, 'GPU is', 'GPUs are')}"
    return f"{f'{taken} of {gpus}' if taken < there else gpus} held by {', '.join(named)}{more}"


def _unblock(found: Sequence[Lacks]) -> list[str]:
    """What to do on the nodes that come closest."""
    nearest = [one for one in found if one.distance[:3] == found[0].distance[:3]]
    one = nearest[0]
    if one.never:
        return ["add a node that has it"]
    steps = ["free one" if one.missing == 1 else f"free {one.missing} on one node"] if one.held else []
    steps += ["let it in (cordon, taints)"] if one.shut else []
    steps += ["free or lower spec.resources.requests"] if one.full else []
    return [" and ".join(steps)]


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
