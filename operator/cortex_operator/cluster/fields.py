"""Server-side apply on JSON: which fields a configuration sets, merging it into an object, taking fields away.

Shields the store from the shape of objects. A field is named by a path from the root; an item of a list with merge
keys by an `Item` in place of an index, so that managers can own different items of one list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from cortex_operator.cluster.port import Invalid
from cortex_operator.cluster.schema import ITSELF, KEY_DEFAULTS, is_atomic_map, merge_keys

MISSING: Final = object()


@dataclass(frozen=True)
class Item:
    """Names an item of a list by the values of its merge keys."""

    values: tuple[Any, ...]


Path = tuple[str | Item, ...]
FieldSet = frozenset[Path]


def copy_json(value: Any) -> Any:
    """A deep copy without nulls, which mean "not set". Raises Invalid for what is not JSON."""
    match value:
        case dict():
            return {_text(key): copy_json(item) for key, item in value.items() if item is not None}
        case list() | tuple():
            return [copy_json(item) for item in value]
        case None | bool() | int() | float() | str():
            # A StrEnum member is a str, but must come back as a plain one.
            return str(value) if isinstance(value, str) else value
    raise Invalid(f"{type(value).__name__} is not a JSON value: {value!r:.80}")


def _text(key: Any) -> str:
    if not isinstance(key, str):
        raise Invalid(f"a field's name must be a string, not {key!r:.80}")
    return str(key)


def field_set(config: Any) -> FieldSet:
    """The paths of all fields that a configuration sets. Raises Invalid for two list items with one key."""
    return frozenset(_fields(config, (), ()))


def _fields(value: Any, names: tuple[str, ...], path: Path) -> Iterator[Path]:
    match value:
        case dict() if value and not is_atomic_map(names):
            for key, item in value.items():
                yield from _fields(item, (*names, key), (*path, key))
        case list() if (keys := merge_keys(names)) is not None:
            for item_key, item in _items(value, keys, names).items():
                yield (*path, item_key)
                if isinstance(item, dict):
                    yield from _fields(item, names, (*path, item_key))
        case _:
            yield path


def _items(values: list[Any], keys: tuple[str, ...], names: tuple[str, ...]) -> dict[Item, Any]:
    found: dict[Item, Any] = {}
    for value in values:
        item = Item((value,)) if keys == (ITSELF,) else _item_of(value, keys, names)
        if item in found:
            shown = ", ".join(map(str, item.values))
            raise Invalid(f"{'.'.join(names)}: two items have the same {'/'.join(keys)} {shown!r}; remove one")
        found[item] = value
    return found


def _item_of(value: Any, keys: tuple[str, ...], names: tuple[str, ...]) -> Item:
    found = tuple(value.get(k, KEY_DEFAULTS.get(k, MISSING)) if isinstance(value, dict) else MISSING for k in keys)
    if MISSING in found:
        raise Invalid(f"{'.'.join(names)}: an item lacks {'/'.join(keys)}: {value!r:.80}")
    return Item(found)


def merge(live: Any, config: Any, names: tuple[str, ...] = ()) -> Any:
    """`live` with the fields of `config` set; neither is changed, parts of both may be shared."""
    match live, config:
        case dict(), dict() if not is_atomic_map(names):
            return {**live, **{k: merge(live.get(k, MISSING), v, (*names, k)) for k, v in config.items()}}
        case list(), list() if (keys := merge_keys(names)) is not None:
            return _merge_items(_items(live, keys, names), _items(config, keys, names), names)
    return config


def _merge_items(live: dict[Item, Any], config: dict[Item, Any], names: tuple[str, ...]) -> list[Any]:
    # Items of the configuration take the places that they have in the live list, in the configuration's order: two
    # managers that apply in turn must not reorder the list for ever.
    merged = iter([(key, merge(live.get(key, MISSING), value, names)) for key, value in config.items()])
    kept = [next(merged)[1] if key in config else value for key, value in live.items()]
    return kept + [value for _, value in merged]


def without(obj: dict[str, Any], doomed: Iterable[Path], kept: FieldSet) -> dict[str, Any]:
    """A copy of `obj` without the fields at `doomed`; emptied parents go too, unless they are or hold a `kept` one."""
    result: dict[str, Any] = copy_json(obj)
    holders = {path[:n] for path in kept for n in range(1, len(path) + 1)}
    for path in sorted(doomed, key=len):
        if path not in holders:
            _take(result, path, (), holders, ())
    return result


def _take(node: Any, path: Path, names: tuple[str, ...], holders: set[Path], at: Path) -> None:
    head, rest = path[0], path[1:]
    key = _locate(node, head, names)
    if key is None:
        return
    below = (*at, head)
    if rest:
        _take(node[key], rest, names if isinstance(head, Item) else (*names, head), holders, below)
        if node[key] or below in holders:
            return
    del node[key]


def _locate(node: Any, head: str | Item, names: tuple[str, ...]) -> Any:
    """The index or key of `head` in `node`; None when it is not there."""
    match node, head:
        case dict(), str():
            return head if head in node else None
        case list(), Item() if (keys := merge_keys(names)) is not None:
            places = list(_items(node, keys, names))
            return places.index(head) if head in places else None
    return None


def value_at(obj: Any, path: Path) -> Any:
    """The value at `path`, or MISSING. Of an item or a map only whether it is there: its fields have paths."""
    node: Any = obj
    names: tuple[str, ...] = ()
    for head in path:
        key = _locate(node, head, names)
        if key is None:
            return MISSING
        node = node[key]
        names = names if isinstance(head, Item) else (*names, head)
    if isinstance(path[-1], Item) or (isinstance(node, dict) and not is_atomic_map(names)):
        return True
    return node


def show(path: Path) -> str:
    """A path for people: `spec.template.spec.containers[search].image`."""
    text = "".join(f"[{','.join(map(str, p.values))}]" if isinstance(p, Item) else f".{p}" for p in path)
    return text.lstrip(".")
