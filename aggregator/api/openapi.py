"""The OpenAPI 3.1 document, made from the routes and from the models that they use.

Schemas come from the very adapters that validate requests and render answers, so the
document cannot say anything else than what happens.
"""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Literal, TypeAlias

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from aggregator.api.dialect import Dialect, Dialects
from aggregator.api.route import Adapter, Answer, Route

Json: TypeAlias = dict[str, Any]
_Key: TypeAlias = tuple[int, JsonSchemaMode]

_SECONDS: Json = {"description": "In seconds", "schema": {"type": "integer", "minimum": 1}}
_REF = "#/components/schemas/{model}"
_DESCRIPTION = """\
Metering and billing for GPU, NPU, CPU and memory clusters.

The Bill API is the primary dialect. Quantities are in the usage type's unit (cpu: m, mem
and storage: Mi, gpu and npu: devices) and hours; fees are in the base currency.

From the networks of `[http] open_to` no token is needed. What a token may not see is not
there: lists leave it out, and single things are not found.
"""


class _Schemas(GenerateJsonSchema):
    """Pydantic's schemas without the titles that repeat each field's name."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002
        """Never: `description` says more."""
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Without a default of null: what may be left out is just not required."""
        shown = super().default_schema(schema)
        if "default" in shown and shown["default"] is None:
            del shown["default"]
        return shown


def document(routes: Sequence[Route], dialects: Dialects) -> Json:
    """The whole document."""
    documented = [route for route in routes if route.is_documented]
    schemas, components = _schemas(documented, dialects)
    paths: dict[str, Json] = {}
    for route in documented:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(
            route, schemas, dialects.of(route.path)
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nodemeter",
            "version": version("nodemeter"),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(routes: Iterable[Route], dialects: Dialects) -> tuple[Mapping[_Key, Json], Json]:
    """The schema of each adapter in each use, and what they share."""
    inputs: dict[_Key, Adapter] = {}
    for route in routes:
        error = dialects.of(route.path).error
        inputs[id(error), "serialization"] = error
        if route.body is not None:
            inputs[id(route.body), "validation"] = route.body
        for answer in route.answers.values():
            if answer.adapter is not None:
                inputs[id(answer.adapter), "serialization"] = answer.adapter
    found, shared = Adapter.json_schemas(
        [(key, key[1], adapter) for key, adapter in inputs.items()],
        ref_template=_REF,
        schema_generator=_Schemas,
    )
    return {key: schema for (key, _), schema in found.items()}, dict(shared.get("$defs", {}))


def _operation(route: Route, schemas: Mapping[_Key, Json], dialect: Dialect) -> Json:
    operation: Json = {
        "operationId": route.operation_id,
        "tags": [route.tag],
        "summary": route.summary,
        "security": [] if route.role is None else [{}, {"token": []}],
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {
            str(status.value): _answer(answer, schemas) for status, answer in route.answers.items()
        }
        | {str(status.value): _problem(status, schemas, dialect) for status in _problems(route)},
    }
    if route.description:
        operation["description"] = route.description
    if route.body is not None:
        schema = schemas[id(route.body), "validation"]
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return operation


def _path_parameters(route: Route) -> Iterable[Json]:
    for name, description in route.path_parameters.items():
        kind = route.path_types.get(name)
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": description,
            "schema": kind.json_schema() if kind else {"type": "string", "minLength": 1},
        }


def _query_parameters(route: Route) -> Iterable[Json]:
    if route.query is None:
        return
    schema = route.query.json_schema(schema_generator=_Schemas)
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        shown = dict(field)
        shown.pop("default", None)
        parameter: Json = {"name": name, "in": "query", "required": name in required}
        if description := shown.pop("description", None):
            parameter["description"] = description
        yield parameter | {"schema": shown if name in required else _optional(shown)}


def _optional(schema: Json) -> Json:
    """A parameter is never null; an empty one counts as absent."""
    choices: list[Json] = [each for each in schema["anyOf"] if each != {"type": "null"}]
    if choices == [{"type": "string"}]:
        return choices[0]
    return {"anyOf": [*choices, {"type": "string", "maxLength": 0}]}


def _answer(answer: Answer, schemas: Mapping[_Key, Json]) -> Json:
    shown: Json = {"description": answer.description}
    if answer.headers:
        shown["headers"] = {
            name: {"description": description, "schema": _header_schema(name)}
            for name, description in answer.headers.items()
        }
    if answer.adapter is not None:
        schema = schemas[id(answer.adapter), "serialization"]
        example: Json = {} if answer.example is None else {"example": answer.example}
        shown["content"] = {answer.media_type: {"schema": schema} | example}
    return shown


def _header_schema(name: str) -> Json:
    """What a header holds: a count, unless it is the one that names a state."""
    return {"type": "string"} if name == "ETag" else {"type": "integer", "minimum": 0}


def _problems(route: Route) -> Sequence[HTTPStatus]:
    """What the route declares, what follows from what it takes, and from who may ask it."""
    found = [*route.problems]
    if route.query or route.body:
        found += [HTTPStatus.BAD_REQUEST]
    if route.body:
        found += [HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE]
    if route.role is not None:
        found += [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.SERVICE_UNAVAILABLE]
    if route.is_limited:
        found += [HTTPStatus.TOO_MANY_REQUESTS]
    return sorted(set(found))


def _problem(status: HTTPStatus, schemas: Mapping[_Key, Json], dialect: Dialect) -> Json:
    mode: Literal["serialization"] = "serialization"
    schema = schemas[id(dialect.error), mode]
    shown: Json = {
        "description": status.phrase,
        "content": {dialect.error_media_type: {"schema": schema}},
    }
    if status is HTTPStatus.TOO_MANY_REQUESTS:
        shown["headers"] = {"Retry-After": _SECONDS}
    return shown
