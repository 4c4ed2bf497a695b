"""Table from the status and the facts of an error to its class. Pure. docs/errors.md is generated from it.

The code in a body refines the status, because servers use one status for several meanings.
"""

from __future__ import annotations

from mira_queue.contract import errors
from mira_queue.contract.errors import JobError, error_for_status
from mira_worker.error_body import ErrorFacts

# Codes of public servers, in lower case.
BLOCKED = frozenset(
    {
        "content_blocked",
        "content_filter",
        "content_policy_violation",
        "data_inspection_failed",
        "datainspectionfailed",
        "responsibleaipolicyviolation",
    }
)
BALANCE = frozenset(
    {
        "accountoverdueerror",
        "arrearage",
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "exceeded_current_quota_error",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_quota",
        "insufficient_user_quota",
        "payment_required",
    }
)
KEY = frozenset(
    {
        "api_key_invalid",
        "authentication_error",
        "incorrect_api_key",
        "invalid_api_key",
        "invalid_authentication_error",
        "invalidapikey",
        "unauthenticated",
    }
)
TOO_LARGE = frozenset(
    {
        "context_length_exceeded",
        "exceed_context_size_error",
        "request_too_large",
        "string_above_max_length",
        "tokens_limit_reached",
    }
)
RATE = frozenset({"ratelimitexceeded", "resource_exhausted", "throttling", "throttlingexception", "too_many_requests"})
RATE_PREFIX = "rate_limit"
NOT_HERE = frozenset({"unsupported_country_region_territory"})
BAD_REQUEST = frozenset({"bad_request", "badrequesterror", "invalid_argument", "invalid_request_error"})
SERVER = frozenset(
    {
        "api_error",
        "engine_overloaded_error",
        "internal_error",
        "internal_server_error",
        "overloaded_error",
        "queue_full",
        "server_error",
        "service_unavailable",
    }
)


def error_kind(status: int, facts: ErrorFacts) -> type[JobError]:
    """Return the class of an error. With a status of 2xx, the body alone decides."""
    stated = _stated(status, facts)
    is_rejection = stated is None or 400 <= stated < 500
    if is_rejection and (facts.codes & BLOCKED or facts.has_reasons):
        return errors.ContentBlocked
    if facts.codes & BALANCE:
        return errors.BalanceUsedUp
    if is_rejection and facts.codes & KEY:
        return errors.InvalidKey
    if is_rejection and (facts.codes & TOO_LARGE or facts.never_fits):
        return errors.TooLarge
    if stated != 429 and _is_rate_limit(stated, facts):
        return errors.RateLimited
    if facts.codes & NOT_HERE:
        return errors.Forbidden
    return _by_code(facts) if stated is None else error_for_status(stated)


def _stated(status: int, facts: ErrorFacts) -> int | None:
    return facts.status if 200 <= status < 300 else status


def _is_rate_limit(stated: int | None, facts: ErrorFacts) -> bool:
    """Return True if a proxy has wrapped a 429 in another status."""
    if facts.status == 429:
        return True
    has_code = bool(facts.codes & RATE) or any(code.startswith(RATE_PREFIX) for code in facts.codes)
    return has_code and (stated is None or stated == 403 or stated >= 500)


def _by_code(facts: ErrorFacts) -> type[JobError]:
    if facts.codes & SERVER:
        return errors.ServerError
    return errors.BadRequest if facts.codes & BAD_REQUEST else errors.InvalidResponse
