"""The layer that people touch is written by hand; it fits the service's own description,
/openapi.json, or a test fails here."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import subprocess
import sys
import types
import typing
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from onceguard import AsyncOnceguard, Onceguard, codes, events, records, webhooks
from onceguard import types as models

from .support import URL

DOCUMENT: dict[str, Any] = httpx.get(f"{URL}/openapi.json").json()
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
#: What is sent.
BODIES = (
    models.SessionClaim,
    models.SignerClaim,
    models.NamespaceClaim,
    events.NewEvent,
    records.NewRecord,
    records.RecordPut,
    records.RecordDelete,
)
MODELS: list[type[Any]] = [
    model
    for module in (models, records, events, webhooks)
    for model in vars(module).values()
    if isinstance(model, type) and dataclasses.is_dataclass(model) and model not in BODIES
]

#: Where each operation is.
OPERATIONS = {
    "open_session": "sessions.open",
    "list_sessions": "sessions.list",
    "read_session": "sessions.read",
    "change_session": "sessions.change",
    "touch_session": "sessions.touch",
    "end_session": "sessions.end",
    "end_sessions": "sessions.end_all",
    "read_session_key": "sessions.key",
    "claim_nonce": "sessions.claim",
    "read_nonce": "sessions.used",
    "claim_nonces": "claims.create",
    "claim_in_namespace": "namespaces.claim",
    "read_namespace": "namespaces.read",
    "read_namespace_nonce": "namespaces.used",
    "read_did": "dids.read",
    "store_did": "dids.store",
    "forget_did": "dids.forget",
    "list_dids": "dids.list",
    "revoke_did": "dids.revoke",
    "refresh_did": "dids.refresh",
    "erase_did": "dids.erase",
    "put_record": "records.put",
    "read_record": "records.read",
    "delete_record": "records.delete",
    "change_records": "records.change",
    "follow_records": "records.follow",
    "record_usage": "records.usage",
    "delete_records": "records.delete_all",
    "list_inactive_owners": "records.inactive",
    "delete_inactive_owners": "records.delete_inactive",
    "publish_events": "events.publish",
    "read_events": "events.follow",
    "create_webhook": "webhooks.create",
    "list_webhooks": "webhooks.list",
    "change_webhook": "webhooks.change",
    "delete_webhook": "webhooks.delete",
    "list_webhook_deliveries": "webhooks.deliveries",
    "replay_webhook": "webhooks.replay",
    "list_instances": "instances.list",
    "verify_request": "verify",
    "search": "search",
    "stats": "stats",
    "resolve_did": "identifiers.resolve",
    "list_did_methods": "identifiers.methods",
    "read_did_properties": "identifiers.properties",
}
#: What is for proxies, and the document itself.
NOT_CALLED = {"forward_auth", "openapi"}
#: The kinds of what a search finds, whose schemas have no names.
FOUND = dict(zip(("FoundDid", "FoundSession"), SCHEMAS["Found"]["oneOf"], strict=True))


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return resolved(SCHEMAS[schema["$ref"].rpartition("/")[2]])
    return schema


def joined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object, which may be in parts."""
    schema = resolved(schema)
    if "allOf" not in schema:
        return schema
    parts = [joined(part) for part in schema["allOf"]]
    return {
        "properties": {name: each for part in parts for name, each in part["properties"].items()},
        "required": [name for part in parts for name in part["required"]],
    }


def described(schema: dict[str, Any]) -> Any:  # noqa: ANN401 - a type
    """What a schema says, in the words of :func:`annotated`."""
    schema = resolved(schema)
    if "oneOf" in schema:
        [one] = [each for each in schema["oneOf"] if each != {"type": "null"}]
        return (*described(one)[:1], True)
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    [kind] = [each for each in kinds if each != "null"]
    if "enum" in schema:
        kind = frozenset(schema["enum"])
    elif kind == "string":
        kind = {"date-time": "time", "byte": "bytes"}.get(schema.get("format", ""), "string")
    elif kind == "array":
        kind = ("array", described(schema["items"])[0])
    elif kind == "object":
        kind = frozenset(schema["properties"]) if "properties" in schema else "object"
    return (kind, "null" in kinds)


def annotated(hint: Any) -> Any:  # noqa: ANN401 - a type
    """What a type says: its kind, and whether it may be null."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return (annotated(next(each for each in inner if each is not type(None)))[0], True)
    if origin is typing.Literal:
        return (frozenset(inner), False)
    if origin is tuple:
        return (("array", annotated(inner[0])[0]), False)
    if dataclasses.is_dataclass(hint):
        return (frozenset(field.name for field in dataclasses.fields(hint)), False)
    simple = {str: "string", int: "integer", bool: "boolean", datetime: "time", bytes: "bytes"}
    return (simple.get(hint, "object"), False)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_model_has_the_fields_of_its_schema(model: type[Any]) -> None:
    schema = joined({**SCHEMAS, **FOUND}[model.__name__])
    hints = typing.get_type_hints(model)
    if issubclass(model, models.Session):
        hints.pop("etag")  # a header
    assert set(hints) == set(schema["properties"])
    for name, hint in hints.items():
        kind, null = described(schema["properties"][name])
        # What may be missing is None, too.
        wanted = (kind, null or name not in schema["required"])
        if name == "alg":
            # Two of its words differ in case only, which generated clients cannot tell apart.
            wanted = (annotated(hint)[0], False)
        assert annotated(hint) == wanted, name


def test_each_schema_of_an_answer_has_a_model() -> None:
    names = {model.__name__ for model in MODELS}
    answers = {
        reference.rpartition("/")[2]
        for path in DOCUMENT["paths"].values()
        for operation in path.values()
        for status, answer in operation["responses"].items()
        if status.startswith("2")
        for content in answer.get("content", {}).values()
        for reference in [content["schema"].get("$ref", "")]
    }
    whole = {"SessionKey", "SessionsEnded", "ClaimResults", "DidResolutionResult", "JsonObject", ""}
    whole |= {"RecordsDeleted", "RecordBatchResults", "PublishedEvent", "PublishedEvents"}
    whole |= {"WebhookList", "Found"}
    assert {re.sub("^PageView_", "", name) for name in answers} - whole <= names


def test_each_operation_is_a_method() -> None:
    described = {
        operation["operationId"]
        for path in DOCUMENT["paths"].values()
        for operation in path.values()
    }
    assert described == {*OPERATIONS, *NOT_CALLED}
    for client in (Onceguard(base_url=URL), AsyncOnceguard(base_url=URL)):
        for method in OPERATIONS.values():
            found: Any = client
            for name in method.split("."):
                found = getattr(found, name)
            assert inspect.ismethod(found), method


@pytest.mark.parametrize(
    ("operation", "schema"),
    [
        ("open_session", "NewSession"),
        ("change_session", "SessionChange"),
        ("end_sessions", "SessionParties"),
        ("claim_nonce", "NewNonce"),
        ("store_did", "NewDid"),
        ("create_webhook", "NewWebhook"),
        ("change_webhook", "WebhookChange"),
        ("replay_webhook", "WebhookReplay"),
        ("verify_request", "ReceivedRequest"),
    ],
)
def test_a_method_takes_the_fields_of_its_body(operation: str, schema: str) -> None:
    client = Onceguard(base_url=URL)
    found: Any = client
    for name in OPERATIONS[operation].split("."):
        found = getattr(found, name)
    parameters = set(inspect.signature(found).parameters)
    beside = {"did", "webhook_id", "if_match", "idempotency_key"}
    if schema != "ReceivedRequest" and "session_id" not in SCHEMAS[schema]["properties"]:
        beside.add("session_id")
    assert parameters - beside == set(SCHEMAS[schema]["properties"])


def test_a_claim_in_a_namespace_takes_the_fields_of_its_body() -> None:
    parameters = set(inspect.signature(Onceguard(base_url=URL).namespaces.claim).parameters)
    # Bytes are a nonce, too.
    fields = set(SCHEMAS["NamespaceClaim"]["properties"]) - {"nonce_base64"}
    assert parameters - {"namespace", "idempotency_key"} == fields


def test_filters_are_the_parameters_of_the_query() -> None:
    client = Onceguard(base_url=URL)
    lists: dict[str, Callable[..., Any]] = {
        "/v1/sessions": client.sessions.list,
        "/v1/dids": client.dids.list,
        "/v1/webhooks/{id}/deliveries": client.webhooks.deliveries,
        "/v1/search": client.search,
    }
    renamed = {"limit": "page_size", "id": "webhook_id"}
    for path, method in lists.items():
        query = {each["name"] for each in DOCUMENT["paths"][path]["get"]["parameters"]}
        wanted = {renamed.get(name, name) for name in query - {"cursor"}}
        assert set(inspect.signature(method).parameters) == wanted


def test_claims_have_the_fields_of_the_document() -> None:
    kinds = [models.SessionClaim, models.SignerClaim, models.NamespaceClaim]
    for model, schema in zip(kinds, SCHEMAS["NewClaim"]["oneOf"], strict=True):
        assert {field.name for field in dataclasses.fields(model)} == set(schema["properties"])


def test_records_have_the_fields_of_the_document() -> None:
    def fields(model: type[Any]) -> set[str]:
        return {field.name for field in dataclasses.fields(model)}

    # The checksum is computed.
    assert fields(records.NewRecord) | {"checksum"} == set(SCHEMAS["NewRecord"]["properties"])
    # Each kind of operation has a class, and a new record no `if_match`.
    operation = set(SCHEMAS["RecordOperation"]["properties"]) - {"op", "if_none_match"}
    assert fields(records.RecordPut) == operation
    assert fields(records.RecordDelete) == operation - {"record"}
    query = {each["name"] for each in DOCUMENT["paths"]["/v1/records/{did}"]["get"]["parameters"]}
    taken = {*inspect.signature(Onceguard(base_url=URL).records.follow).parameters}
    taken |= {*inspect.signature(Onceguard(base_url=URL).records.list).parameters}
    renamed = {"contents": "fields", "page_size": "limit", "metadata": "metadata.KEY"}
    assert {renamed.get(name, name) for name in taken} == query - {"cursor"}


def test_events_have_the_fields_of_the_document() -> None:
    fields = {field.name for field in dataclasses.fields(events.NewEvent)}
    assert fields == set(SCHEMAS["NewEvent"]["properties"])
    query = {each["name"] for each in DOCUMENT["paths"]["/v1/events"]["get"]["parameters"]}
    client = Onceguard(base_url=URL)
    renamed = {"from_": "from", "page_size": "limit"}
    listed, followed = (
        {renamed.get(name, name) for name in inspect.signature(method).parameters}
        for method in (client.events.list, client.events.follow)
    )
    assert followed - {"wait"} == query
    assert listed == query - {"since"}


def test_every_code_is_known() -> None:
    page = httpx.get(f"{URL}/problems").text
    assert set(re.findall(r"problems/(\w+)", page)) == set(typing.get_args(codes.Code))


def test_a_client_can_be_generated_without_a_warning(tmp_path: Path) -> None:
    document, config = tmp_path / "openapi.json", tmp_path / "config.json"
    document.write_text(json.dumps(DOCUMENT))
    # The media type is W3C's, and JSON; the generator cannot know.
    overrides = {"application/did-resolution": "application/json"}
    config.write_text(json.dumps({"content_type_overrides": overrides, "post_hooks": []}))
    generate = [str(Path(sys.executable).with_name("openapi-python-client")), "generate"]
    files = [f"--path={document}", f"--config={config}", f"--output-path={tmp_path}/generated"]
    done = subprocess.run([*generate, *files], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "WARNING" not in said.upper(), said
    assert (tmp_path / "generated" / "pyproject.toml").exists()
