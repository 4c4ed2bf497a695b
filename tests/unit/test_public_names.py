"""The public entry point: `from mira_queue import ...`."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import mira_worker
import pytest

import mira_queue
from mira_queue.contract import errors

HEAVY = {"celery", "kombu", "redis", "pydantic", "requests", "orjson", "mira_producer"}


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a new interpreter has after the statement."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def declared_for_type_checkers() -> dict[str, str]:
    stub = ast.parse(Path(mira_queue.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or "": str(node.module) for node in imports for alias in node.names}


def test_type_checkers_and_the_interpreter_see_the_same_names() -> None:
    assert list(declared_for_type_checkers()) == mira_queue.__all__


@pytest.mark.parametrize("name", mira_queue.__all__)
def test_a_public_name_is_the_object_of_its_module(name: str) -> None:
    assert getattr(mira_queue, name) is getattr(import_module(declared_for_type_checkers()[name]), name)
    assert name in dir(mira_queue)


def test_every_error_that_a_job_or_a_client_can_raise_is_public() -> None:
    raised = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.MiraQueueError) and kind is not errors.RateLimited
    }

    assert raised <= set(mira_queue.__all__)


def test_no_lower_layer_imports_the_public_names() -> None:
    """They name classes of the producer. import-linter does not read the stub."""
    shared, worker = (Path(module.__file__ or "").parent for module in (mira_queue, mira_worker))
    for path in {*shared.rglob("*.py"), *worker.rglob("*.py")} - {shared / "__init__.py"}:
        assert not re.search(r"^\s*from mira_queue import ", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_importing_the_package_loads_none_of_its_dependencies() -> None:
    assert not loaded_by("import mira_queue") & HEAVY


def test_catching_an_error_needs_no_celery_and_no_client() -> None:
    assert not loaded_by("from mira_queue import JobError") & (HEAVY - {"orjson"})


def test_an_unknown_name_is_an_import_error() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        getattr(mira_queue, "Nonsense")  # noqa: B009
    with pytest.raises(ImportError):
        exec("from mira_queue import Nonsense")


def test_the_version_is_that_of_the_distribution() -> None:
    assert mira_queue.__version__ == version("mira-queue")
