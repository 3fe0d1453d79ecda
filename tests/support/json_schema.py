"""The part of JSON Schema that the OpenRPC specification of Ethereum uses, and nothing more.

A keyword that is not known here fails loudly, so that a newer specification cannot pass by being ignored.
"""

from __future__ import annotations

import re
from typing import Any

_ANNOTATIONS = {"title", "description", "examples", "default", "$schema"}
_TYPES: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "array": (list,),
    "object": (dict,),
}


def violations(value: Any, schema: Any, path: str = "$") -> list[str]:
    """What is wrong with a value; empty if it conforms."""
    if schema is True or schema == {}:
        return []
    found: list[str] = []
    for keyword, rule in schema.items():
        if keyword in _ANNOTATIONS:
            continue
        found += _CHECKS[keyword](value, rule, schema, path)
    return found


def _type(value: Any, rule: Any, schema: Any, path: str) -> list[str]:
    names = rule if isinstance(rule, list) else [rule]
    fits = any(isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool)) for name in names)
    return [] if fits else [f"{path}: expected {rule}, found {value!r:.80}"]


def _pattern(value: Any, rule: str, schema: Any, path: str) -> list[str]:
    if not isinstance(value, str) or re.search(rule, value):
        return []
    return [f"{path}: {value!r:.80} does not match {rule}"]


def _enum(value: Any, rule: list[Any], schema: Any, path: str) -> list[str]:
    return [] if value in rule else [f"{path}: {value!r:.80} is none of {rule}"]


def _const(value: Any, rule: Any, schema: Any, path: str) -> list[str]:
    return [] if value == rule else [f"{path}: {value!r:.80} is not {rule!r}"]


def _minimum(value: Any, rule: float, schema: Any, path: str) -> list[str]:
    return [f"{path}: {value} < {rule}"] if isinstance(value, int | float) and value < rule else []


def _maximum(value: Any, rule: float, schema: Any, path: str) -> list[str]:
    return [f"{path}: {value} > {rule}"] if isinstance(value, int | float) and value > rule else []


def _items(value: Any, rule: Any, schema: Any, path: str) -> list[str]:
    if not isinstance(value, list):
        return []
    return [each for index, item in enumerate(value) for each in violations(item, rule, f"{path}[{index}]")]


def _properties(value: Any, rule: dict[str, Any], schema: Any, path: str) -> list[str]:
    if not isinstance(value, dict):
        return []
    return [
        each
        for name, inner in rule.items()
        if name in value
        for each in violations(value[name], inner, f"{path}.{name}")
    ]


def _required(value: Any, rule: list[str], schema: Any, path: str) -> list[str]:
    return [f"{path}: {name} is missing" for name in rule if name not in value] if isinstance(value, dict) else []


def _additional(value: Any, rule: Any, schema: Any, path: str) -> list[str]:
    if not isinstance(value, dict):
        return []
    extra = [name for name in value if name not in schema.get("properties", {})]
    if rule is False:
        return [f"{path}: {name} is not allowed" for name in extra]
    return [each for name in extra for each in violations(value[name], rule, f"{path}.{name}")]


def _one_of(value: Any, rule: list[Any], schema: Any, path: str) -> list[str]:
    results = [violations(value, inner, path) for inner in rule]
    fitting = sum(not result for result in results)
    if fitting == 1:
        return []
    if fitting > 1:
        return [f"{path}: fits {fitting} schemas of oneOf"]
    return [f"{path}: fits none of {len(rule)} schemas: " + min(results, key=len)[0]]


def _any_of(value: Any, rule: list[Any], schema: Any, path: str) -> list[str]:
    results = [violations(value, inner, path) for inner in rule]
    if any(not result for result in results):
        return []
    return [f"{path}: fits none of {len(rule)} schemas: " + min(results, key=len)[0]]


_CHECKS = {
    "type": _type,
    "pattern": _pattern,
    "enum": _enum,
    "const": _const,
    "minimum": _minimum,
    "maximum": _maximum,
    "items": _items,
    "properties": _properties,
    "required": _required,
    "additionalProperties": _additional,
    "oneOf": _one_of,
    "anyOf": _any_of,
}
