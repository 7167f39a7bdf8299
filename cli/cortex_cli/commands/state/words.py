"""States, changes and reports in words for people."""

from __future__ import annotations

import json
from typing import Any, Final

_VALUE_CHARACTERS: Final = 100
_LATE_SECONDS: Final = 10.0
_MOST: Final = 100
Document = dict[str, Any]


def value(given: Any) -> str:
    """A value of a field on one line, cut when it is long."""
    text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    text = text if text.isprintable() else json.dumps(text, ensure_ascii=False)
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[: _VALUE_CHARACTERS - 3]}..."


def source(state: Document) -> str:
    """Where a state was read, and how old it may be."""
    if state["aggregate"].startswith("replica/"):
        return "from the shared state"
    if state["source"] == "Lake":
        return "from the Lake"
    age = state["ageSeconds"]
    return f"from the copy, at most {age:.3g} s behind" if age else "from the copy, which is current"


def changed(change: Document) -> str:
    """What a change set, on one line."""
    data = change.get("data")
    if data is None:
        return "(nested too deeply to be shown)"
    return " ".join(f"{name}={value(each)}" for name, each in sorted(data.items()))


def differs(report: Document) -> bool:
    """Whether the state is not what happened."""
    return bool(report["rows"] or report["copies"])


def findings(report: Document) -> list[str]:
    """A report, a line for each thing that there is to know."""
    lines = [f"feed at position {report['position']}; {_copy(report)}"]
    lines += _replicas(report)
    for what, found in (("row", report["rows"]), ("copy", report["copies"])):
        lines += [f"{what} of {one['aggregate']}: {one['message']}" for one in found]
        if len(found) >= _MOST:
            lines.append(f"there may be more: the first {_MOST} are shown")
    return lines


def _copy(report: Document) -> str:
    copy = report.get("copy")
    if copy is None:
        return f"the copy was not looked at: {report.get('problem', '')}"
    if not copy["epoch"]:
        return "there is no copy yet"
    behind = report["position"] - copy["position"]
    lag = copy.get("lagSeconds")
    when = "how old it is will be known soon" if lag is None else f"complete as of {lag:.3g} s ago"
    late = "; no pod brings it up to date" if lag is not None and lag > _LATE_SECONDS else ""
    return f"the copy {'has all of it' if behind <= 0 else f'is {behind} events behind'}, {when}{late}"


def _replicas(report: Document) -> list[str]:
    if "copy" not in report:
        return []
    if not report["replicas"]:
        return ["no replica has said that it is there"]
    return [f"replica {_load(one['fields'])}" for one in report["replicas"]]


def _load(fields: Document) -> str:
    load = ", ".join(f"{name} {value(each)}" for name, each in sorted(fields.items()) if name != "pod")
    return f"{fields.get('pod', '?')}{': ' if load else ''}{load}"
