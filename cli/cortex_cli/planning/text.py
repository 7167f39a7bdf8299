"""The words of a plan: one block for each resource, a line with the sum at the end. Pure; reads the document of
`-o json`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

_SHOWN: Final = 12
"""Fields of one object that are shown."""
_LONG: Final = 72
"""Characters of a value that are shown."""
_MARKS: Final = {"Create": "+", "Change": "~", "Delete": "-", "None": " "}
_DONE: Final = {"Create": "created", "Change": "changed", "Delete": "deleted"}
Json = dict[str, Any]


def render(document: Json) -> str:
    """The whole text, without a line break at its end."""
    blocks = ["\n".join(_block(resource)) for resource in document["resources"]]
    notes = "\n".join(f"note: {note}" for note in document["notes"])
    return "\n\n".join(part for part in (*blocks, notes, _sum(document)) if part)


def _block(plan: Json) -> Iterator[str]:
    action = _DONE.get(plan["action"], "unchanged")
    yield f"{_MARKS[plan['action']]} {plan['kind']} {plan['namespace']}/{plan['name']}: {action}"
    yield from _fields(plan["fields"], "    ")
    for each in plan["objects"]:
        doubt = " (may be there: it cannot be read)" if each["unsure"] else ""
        drift = " (drift: the operator does this without the apply)" if each["drift"] else ""
        yield f"    {_MARKS[each['action']]} {each['kind']} {each['name']}{doubt}{drift}"
        yield from _fields(each["fields"], "        ")
    if plan["action"] != "None" or plan["objects"]:
        yield from _effects(plan)
    for one in plan["missing"]:
        index = f"CortexIndex {one['name']} " if one["kind"] == "CortexIndex" else ""
        yield f"    missing: {index}{one['message']}"
    yield from (f"    blocked: {one['reason']}: {one['message']}" for one in plan["blocked"])


def _fields(fields: list[Json], indent: str) -> Iterator[str]:
    for each in fields[:_SHOWN]:
        yield f"{indent}{each['path']}: {_difference(each['before'], each['after'])}"
    if len(fields) > _SHOWN:
        yield f"{indent}and {len(fields) - _SHOWN} more fields"


def _difference(before: Any, after: Any) -> str:
    if before == after:
        return f"{_value(after)}, set by somebody else from now on" if after != "(hidden)" else "another value (hidden)"
    if before is None:
        return f"set to {_value(after)}"
    return f"{_value(before)} removed" if after is None else f"{_value(before)} -> {_value(after)}"


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": ")) if not isinstance(value, str) else value
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def _effects(plan: Json) -> Iterator[str]:
    yield f"    pods: {_pods(plan['pods'])}"
    for line in plan["gpus"]:
        pool = f" of pool {line['pool']}" if line["pool"] else ""
        more = line["after"] - line["before"]
        yield f"    GPUs: {line['before']} -> {line['after']} {line['resource']}{pool} ({more:+})"
    if plan["placement"] is not None:
        placed = plan["placement"]
        known = {"Yes": "", "NotNeeded": "", "No": "no room now: ", "Unknown": "fits unknown: "}[placed["fits"]]
        yield f"    placement: {known}{placed['message']}"
    if plan["revision"] is not None:
        yield f"    revision: {_revision(plan['kind'], plan['revision'])}"


def _pods(pods: Json) -> str:
    count = f"{pods['before']} -> {pods['after']}" if pods["before"] != pods["after"] else f"{pods['after']}, as before"
    if not pods["replaced"]:
        return f"{count}; none is replaced" if pods["before"] else count
    if pods["way"] == "Recreate":
        return f"{count}; {pods['replaced']} replaced: all end before the first new one begins"
    meanwhile = f"at most {pods['surge']} more and {pods['unavailable']} fewer meanwhile"
    return f"{count}; {pods['replaced']} replaced, rolling: {meanwhile}"


def _revision(kind: str, revision: Json) -> str:
    change = f"{revision['before']} -> {revision['after']}" if revision["before"] else str(revision["after"])
    if revision["cause"] == "First":
        return f"{change}, the first build" + (
            "; what the Lake holds of this name already is embedded for it" if kind == "CortexIndex" else ""
        )
    if revision["toEmbed"] is None:
        return f"{change}; the one before answers until it is ready"
    words = f"{revision['toEmbed']:,} of {revision['documents']:,} documents to embed"
    kept = ", as the Lake still has the rest" if revision["cause"] == "Restored" else ""
    return f"{change}: {words}{kept}; the one before answers meanwhile"


def _sum(document: Json) -> str:
    total = document["summary"]
    unchanged = total["resources"]["None"]
    if not document["changes"]:
        return f"Nothing to do: {unchanged} resource{'' if unchanged == 1 else 's'} unchanged." + _open(total)
    resources = _listed({**total["resources"]}, {**_DONE, "None": "unchanged"})
    parts = [f"Plan: {resources}", f"objects: {_listed(total['objects'], _DONE) or 'none'}"]
    parts.append(f"pods: {total['podsBefore']} -> {total['podsAfter']}, {total['podsReplaced']} replaced")
    parts += [f"{count:+} {resource}" for resource, count in total["gpus"].items() if count]
    embed = total["documentsToEmbed"]
    parts += [f"{embed:,} documents to embed"] if embed else []
    return "; ".join(parts) + "." + _open(total)


def _open(total: Json) -> str:
    counts = {"missing": total["missing"], "blocked": total["blocked"], "without room": total["withoutRoom"]}
    words = [f"{count} {word}" for word, count in counts.items() if count]
    return f" {', '.join(words)}: see above." if words else ""


def _listed(counts: dict[str, int], words: dict[str, str]) -> str:
    return ", ".join(f"{counts[action]} {word}" for action, word in words.items() if counts.get(action))
