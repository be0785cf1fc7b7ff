"""Nested settings as one level, for a table."""

from typing import Any

from datafree.files.validation import CONFIG


def flatten(node: Any, name: str = "") -> dict[str, Any]:
    """Return the JSON of settings as one dict, whose keys are paths such as `method.batch_size`.

    The parts of a mixture are listed by their names, as on the command line: `method.deep-inversion.batch_size`.
    """
    if isinstance(node, list) and node and all(isinstance(item, dict) and CONFIG in item for item in node):
        return {key: value for item in node for key, value in _flatten_part(item, name).items()}
    if not isinstance(node, dict):
        return {name: node}
    rows: dict[str, Any] = {}
    for key, value in node.items():
        if key != CONFIG:
            rows |= flatten(value, f"{name}.{key}" if name else key)
        elif name:
            rows[name] = value
    return rows


def _flatten_part(part: dict[str, Any], name: str) -> dict[str, Any]:
    path = f"{name.rpartition('.')[0]}.{part.get('name')}"
    rows = {f"{path}.share": part.get("share"), **flatten(part.get("method"), path)}
    schedule = part.get("schedule") or {}
    return rows | {f"{path}.{key}": value for key, value in schedule.items() if key not in (CONFIG, "batch_size")}
