"""docker-compose.yml and the settings agree; needs no Docker Engine."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml  # type: ignore[import-untyped]

from mira_queue.contract.settings import Settings, variable
from tests.docker.stack import ROOT

COMPOSE_FILE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SERVICES = yaml.safe_load(COMPOSE_FILE)["services"]
# The directory of the embedded server, which the stack does not use; a file that the Dockerfile names; a tool of tests.
NOT_OF_THE_STACK = {"MIRA_STATE_DIR", "MIRA_HEALTH_FILE", "MIRA_CRASH_AT", "MIRA_ACCOUNTS_FILE"}
# What a worker gets after its grace to hand the other jobs back and end.
HANDING_BACK_S = 10


# Settings that a worker does not use.
OF_WEBHOOKS = {"MIRA_WEBHOOK_SECRET", "MIRA_WEBHOOK_HOSTS", "MIRA_WEBHOOK_TIMEOUT", "MIRA_WEBHOOK_MAX_WAITING"}
OF_THE_PAGE = {
    "MIRA_PAGE_URL",
    "MIRA_PAGE_USER_HEADER",
    "MIRA_PAGE_USER_SCOPE",
    "MIRA_PAGE_PROXIES",
    "MIRA_PAGE_REQUESTS",
}
OF_FILES = {"MIRA_MAX_FILE_BYTES", "MIRA_FILE_TTL", "MIRA_REPORT_CONTENT"}
OF_THE_GATEWAY = {"MIRA_GATEWAY_HOSTS", *OF_FILES, *OF_WEBHOOKS, *OF_THE_PAGE}


def mappings(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    """Every mapping of the file, the inner ones too."""
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from mappings(value)


def test_no_key_is_written_twice() -> None:
    # docker-compose 1 silently takes the second one; stricter parsers reject the file.
    for mapping in mappings(yaml.compose(COMPOSE_FILE)):
        keys = [key.value for key, _ in mapping.value]
        assert len(keys) == len(set(keys)), f"{mapping.start_mark}: {keys}"


def test_every_setting_reaches_the_containers() -> None:
    worker, gateway = (
        {name for name in SERVICES[service]["environment"] if name.startswith("MIRA_")}
        for service in ("worker", "gateway")
    )
    settings = {variable(field) for field in Settings.model_fields}

    assert gateway == settings - NOT_OF_THE_STACK
    assert worker == gateway - OF_THE_GATEWAY


def test_only_the_workers_and_the_gateway_whose_jobs_belong_to_its_account_have_the_key() -> None:
    with_key = [name for name, service in SERVICES.items() if "MIRA_API_KEY" in service.get("environment", {})]

    assert with_key == ["worker", "gateway"]


def test_a_stopped_worker_gets_its_grace_and_time_to_hand_jobs_back() -> None:
    stop_grace = re.search(r"\$\{WORKER_STOP_GRACE:-(\d+)s\}", COMPOSE_FILE)
    assert stop_grace is not None
    grace_s = Settings.model_fields["grace"].default.total_seconds()

    assert int(stop_grace[1]) == grace_s + HANDING_BACK_S


@pytest.mark.parametrize("default", re.findall(r"\$\{PYTHON_IMAGE:-([^}]+)\}", COMPOSE_FILE))
def test_compose_file_and_dockerfile_name_the_same_base_image(default: str) -> None:
    assert f"ARG PYTHON_IMAGE={default}\n" in DOCKERFILE
