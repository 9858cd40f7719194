"""The parameters of requests, by their schemas in the OpenAPI file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from starlette.requests import Request

from backfill_assets.domain.errors import UsageMistake


@cache
def openapi() -> dict[str, Any]:
    """Return the OpenAPI document of the API."""
    text = files("backfill_assets.web").joinpath("openapi.yaml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def resolved(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a `$ref` within the document."""
    if "$ref" in node:
        found: Any = openapi()
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return resolved(found)
    return node


def query_values(request: Request, parameters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of a request's query by name, None or the default where there is none. Raises UsageMistake."""
    schemas = {p["name"]: resolved(p["schema"]) for p in map(resolved, parameters) if p["in"] == "query"}
    given = request.query_params.multi_items()
    for name, _ in given:
        if name not in schemas:
            known = f"there are {', '.join(schemas)}" if schemas else "there are none here"
            raise UsageMistake(f"There is no parameter {name!r}: {known}.")
    if len(given) > len(request.query_params):
        raise UsageMistake("A parameter is given twice: separate several names by commas.")
    for parameter in map(resolved, parameters):
        if parameter.get("required") and parameter["in"] == "query" and parameter["name"] not in request.query_params:
            raise UsageMistake(f"{parameter['name']} is missing: {parameter['description'].rstrip('.').lower()}.")
    return {
        name: _value(name, request.query_params[name], schema)
        if name in request.query_params
        else schema.get("default")
        for name, schema in schemas.items()
    }


def _value(name: str, text: str, schema: Mapping[str, Any]) -> object:
    if schema["type"] == "array":
        names = [part.strip() for part in text.split(",")]
        if not all(names):
            raise UsageMistake(f"{name} must be a list like A,B, not {text!r}.")
        return tuple(dict.fromkeys(names))
    if schema["type"] == "integer":
        least, most = schema["minimum"], schema["maximum"]
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
            raise UsageMistake(f"{name} must be an integer from {least} to {most}, not {text!r}.")
        return int(text)
    if schema.get("format") == "date":
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise UsageMistake(f"{name} must be a date like 2025-01-31, not {text!r}.") from None
    if "enum" in schema and text not in schema["enum"]:
        raise UsageMistake(f"{name} must be one of {', '.join(schema['enum'])}, not {text!r}.")
    return text
