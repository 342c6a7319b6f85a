"""An experiment's values by dotted key; light to import."""

from typing import Any


def flat(node: Any, path: str = "") -> dict[str, Any]:
    """Return plain values by dotted key; a list or an empty mapping is a value."""
    if not isinstance(node, dict) or not node:
        return {path: node}
    return {
        key: value
        for name, child in node.items()
        for key, value in flat(child, f"{path}.{name}" if path else str(name)).items()
    }
