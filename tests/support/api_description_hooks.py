"""Hooks of Schemathesis: existing objects in place of random ids, and errors that no schema can rule out.

KNOWN_OBJECTS is a JSON object: the ids of existing objects, by the name of their resource.
"""

from __future__ import annotations

import json
import os
import zlib
from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure

KNOWN: dict[str, list[str]] = json.loads(os.environ.get("KNOWN_OBJECTS", "{}"))
REJECTED_VALID_REQUEST = "ST202"
# A schema cannot say that an object exists, that a time is in the future, or that a name is allowed.
MEANINGS = (
    *(
        "account",
        "after",
        "bytes",
        "data",
        "deadline",
        "max_cost",
        "mira.max_cost",
        "mira.webhook",
        "not_before",
        "part_ids",
    ),
    *("since", "statuses", "until", "url", "webhook"),
)
CALLS = ("create_chat_completion", "create_response")


def _operation(context: HookContext) -> Any:
    assert context.operation is not None
    return context.operation


@schemathesis.hook
def map_path_parameters(context: HookContext, path_parameters: dict[str, Any]) -> dict[str, Any]:
    """Replace most ids by those of existing objects. What is deleted has to be random, or it would be missing later."""
    if not path_parameters or _operation(context).method == "delete":
        return path_parameters
    resource = _operation(context).path.removeprefix("/v1/").partition("/")[0]
    choices = [*KNOWN.get(resource, ()), path_parameters["id"]]
    chosen = choices[zlib.crc32(str(path_parameters["id"]).encode("utf-8", "replace")) % len(choices)]
    return {**path_parameters, "id": chosen}


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Send no idempotency keys: one that is used twice gets an error. test_gateway_retries.py tests them."""
    for methods in raw_schema["paths"].values():
        for operation in methods.values():
            given = operation.get("parameters", [])
            operation["parameters"] = [each for each in given if each["name"] != "Idempotency-Key"]


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Return False for a valid request that got an error for a reason that no schema can express."""
    if failure.code != REJECTED_VALID_REQUEST:
        return True
    error = response.json()["error"]
    # The error of a call of the API has no parameter.
    is_of_call = error["param"] is None and case.operation.definition.raw.get("operationId") in CALLS
    return not (is_of_call or error["param"] in MEANINGS or error["code"] == "invalid_range")
