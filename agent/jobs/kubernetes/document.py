"""Parses what the kubelet sends as JSON, and takes it apart without trusting its shape. Pure.

What is not there, or of another type than it should be, is empty here; who cannot do
without it says so.
"""

import json
from collections.abc import Sequence
from typing import TypeAlias

Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"
"""What a document holds; a number with a fraction is its text."""
Object: TypeAlias = dict[str, Json]

_UNREAD = frozenset(
    {
        "affinity",
        "args",
        "command",
        "env",
        "envFrom",
        "hostIPs",
        "imagePullSecrets",
        "lastState",
        "lifecycle",
        "livenessProbe",
        "managedFields",
        "podIPs",
        "ports",
        "readinessProbe",
        "securityContext",
        "startupProbe",
        "state",
        "tolerations",
        "topologySpreadConstraints",
        "volumeMounts",
        "volumes",
    }
)
"""Parts of a pod that nobody reads here, most of its size; a label may be called so, too."""


def parse_document(body: bytes) -> Object:
    """Parse an object, leaving out what is never read: it would take most of the memory.

    Raises:
        ValueError: it is no JSON, not an object, or nested beyond all measure.
    """
    try:
        document: Json = json.loads(body, object_pairs_hook=_keep, parse_float=str)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(document, dict):
        raise ValueError("it is no object")  # noqa: TRY004  as any other wrong document
    return document


def _keep(pairs: list[tuple[str, Json]]) -> Object:
    return {
        name: value
        for name, value in pairs
        if name not in _UNREAD or not isinstance(value, list | dict)
    }


def as_object(value: Json) -> Object:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}


def as_objects(value: Json) -> Sequence[Object]:
    """The objects in a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_text(value: Json) -> str:
    """The text, or an empty one."""
    return value if isinstance(value, str) else ""
