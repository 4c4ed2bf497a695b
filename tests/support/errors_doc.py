"""Write docs/errors.md from the meaning of each response in the table: `make errors-doc`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from mira_worker.response_meaning import Failed, Fault, Meaning, RateLimited, read_response
from mira_worker.transport import HttpResponse, NoResponse

from mira_queue.contract.errors import AccountFault, InvalidResponse
from mira_queue.contract.outcome import Completion
from tests.support.response_cases import NOW_S, SECTIONS, Case, Expected

FILE = Path(__file__).parents[2] / "docs" / "errors.md"
HEAD = """# Meaning of a response

This file is generated (`make errors-doc`). Each row is a response, and what the function `read_response` of
`worker/mira_worker/response_meaning.py` makes of it. A test sends each row through a socket.

| meaning | what follows |
| --- | --- |
| answered | the answer is stored |
| terminal | the job fails; other jobs are not affected |
| account | every job of the key (or of the key and the model) would fail: a run pauses |
| rate-limited | no call of the account starts before the wait has passed; the job uses up no attempt |
| fault | the job is retried, at most MIRA_MAX_ATTEMPTS times; consecutive faults open the circuit breaker |

- The code in a body refines its status. In a 200, it counts as the status.
- The message of the server is shown while jobs wait because of it, and in the error of a job that fails. Logs and
  displays leave it out if it quotes the prompt.
- If a response that could not be used states its tokens, they count as paid. Otherwise, the call counts as one that may
  have been billed.
- A 408 means that the server has a limit on responses that are not streamed. The job's next call is streamed. Its
  outcome is the same as without streaming.
- A 429 or 503 states its wait in the first of these forms that is longer than zero: `Retry-After`, `retry-after-ms`,
  `x-ms-retry-after-ms`, the body, the reset of a quota. Of several quotas, those that are used up count. Of these, the
  latest reset counts. The wait is at most a day. A time is compared with the `Date` of the response.
- The code `never_admitted` means that a job was rate-limited repeatedly while other jobs of the account were accepted:
  at least 6 times, and more often than chance explains (less than 1 in 10^9).
- `MIRA_FAILED_ANSWER` is the pattern of texts that a server sends when its model fails.
"""


def meaning_name(meaning: Meaning) -> Expected:
    match meaning:
        case Completion():
            return "answered"
        case Failed(error=AccountFault()):
            return "account"
        case Failed():
            return "terminal"
        case RateLimited():
            return "rate-limited"
        case Fault():
            return "fault"


def code_of(meaning: Meaning) -> str:
    return "" if isinstance(meaning, Completion) else meaning.error.code


def wait_s(meaning: Meaning) -> float:
    match meaning:
        case RateLimited(retry_after=stated):
            return stated.wait.total_seconds()
        case Fault(retry_after=wait):
            return wait.total_seconds()
    return 0


def read(case: Case) -> Meaning:
    """Return the meaning of a case without a socket."""
    headers = {name.lower(): value for name, value in case.headers.items()}
    begun = HttpResponse(case.status, headers, case.raw, 1)
    response = NoResponse(InvalidResponse("broke off"), True, begun=begun) if case.end == "cut" else begun
    return read_response(response, datetime.fromtimestamp(NOW_S, UTC))


def document() -> str:
    parts = [HEAD]
    for title, cases in SECTIONS.items():
        rows = [_row(case, read(case)) for case in cases]
        head = "| response | seen at | meaning | code | wait |\n| --- | --- | --- | --- | --- |\n"
        parts.append(f"## {title}\n\n{head}{''.join(rows)}")
    return "\n".join(parts)


def _row(case: Case, meaning: Meaning) -> str:
    wait = f"{wait_s(meaning):g} s" if wait_s(meaning) else ""
    code = f"`{code_of(meaning)}`" if code_of(meaning) else ""
    what = case.what.replace("|", "\\|")
    return f"| {what} | {case.source} | {meaning_name(meaning)} | {code} | {wait} |\n"


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
