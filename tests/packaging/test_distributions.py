"""The wheel and the sdist, each installed in an empty environment, next to an app's own `producer.py` and `worker.py`.

Nothing is downloaded: the builds run without isolation, and dependencies come from the environment of the tests.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.queue_process import environment

ROOT = Path(__file__).parents[2]
SOURCE = ("pyproject.toml", "README.md", "LICENSE", "mira_queue", "producer", "worker")
TOP_LEVEL = {"mira_queue", "mira_producer", "mira_worker"}
DATA = ("*.lua", "*.css", "*.html", "*.conf", "py.typed")
# An app's own modules: their import would end the process that does it.
OWN_MODULE = "raise SystemExit('the module of the app was imported')\n"
TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
# The first program of the README.
PROGRAM = (ROOT / "README.md").read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]


def run(*command: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command, which must succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, without what building leaves behind."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCE:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(path, folder / name)
    return folder


@pytest.fixture(scope="module")
def sdist(source: Path) -> Path:
    run(sys.executable, "-c", "from setuptools.build_meta import build_sdist; build_sdist('dist')", cwd=source)
    (archive,) = source.glob("dist/*.tar.gz")
    return archive


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def wheel(request: pytest.FixtureRequest, source: Path, sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the checkout, and the wheel that pip makes of the sdist."""
    folder = tmp_path_factory.mktemp("wheel")
    what = {"wheel": source, "sdist": sdist}[request.param]
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", what, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has only this wheel and the dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    programs = folder / "bin"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", programs / "python")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    # A path in a .pth file comes last, and the .pth files there do not count: not the one of the editable install.
    (site_packages,) = folder.glob("lib/*/site-packages")
    (site_packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return programs


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A user's project."""
    for name in ("producer.py", "worker.py"):
        (tmp_path / name).write_text(OWN_MODULE)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Why is the sky blue?"}\n')
    return tmp_path


@contextmanager
def running(*command: str | Path, cwd: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Start a program, and stop it in the end."""
    process = subprocess.Popen(
        [str(part) for part in command], cwd=cwd, env=environment() | variables, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=STOP_TIMEOUT_S)


def packaged(names: list[str]) -> set[str]:
    return {name for name in names if any(Path(name).match(pattern) for pattern in DATA)}


def test_the_top_level_is_three_packages_and_their_data_are_complete(wheel: Path, sdist: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    with tarfile.open(sdist) as archive:
        in_sdist = [name.partition("/")[2] for name in archive.getnames()]
    checked_in = subprocess.run(["git", "ls-files", *SOURCE], cwd=ROOT, capture_output=True, text=True).stdout.split()
    wanted = packaged(checked_in)

    assert {name.partition("/")[0] for name in names} == TOP_LEVEL
    assert packaged(in_sdist) == wanted
    assert packaged(names) == {name.removeprefix("producer/").removeprefix("worker/") for name in wanted}
    assert len([name for name in names if name.endswith("py.typed")]) == 3
    assert any(name.endswith(".lua") for name in names)


def test_the_first_minute_works_next_to_modules_of_the_same_names(programs: Path, app: Path) -> None:
    variables = {"PYTHONPATH": ".", "MIRA_STATE_DIR": str(app / "state")}
    mira_queue = programs / "mira-queue"

    where = run(programs / "python", "-c", "import mira_queue; print(mira_queue.__file__)", cwd=app, **variables)
    assert Path(where.stdout).is_relative_to(programs.parent)
    assert run(mira_queue, "--version", cwd=app, **variables).stdout.startswith("mira-queue ")
    # The second run follows at once: a worker of the first one must not count as alive.
    for name in ("first", "second"):
        shutil.copy(app / "prompts.jsonl", app / f"{name}.jsonl")
        done = run(mira_queue, "run", f"{name}.jsonl", "--simulate", cwd=app, **variables)
        assert "workers of this queue" not in done.stderr
        assert (app / f"{name}.simulated.answers.jsonl").read_text().count('"status_code":200') == 1


def test_a_web_app_and_a_worker_work_next_to_modules_of_the_same_names(programs: Path, app: Path) -> None:
    variables = {"PYTHONPATH": ".", "MIRA_STATE_DIR": str(app / "state"), "MIRA_API_KEY": "any"}
    mira_queue = programs / "mira-queue"
    (app / "ask.py").write_text(PROGRAM)
    with running(mira_queue, "simulate", cwd=app, **variables) as simulator:
        assert simulator.stdout is not None
        variables["MIRA_API_BASE"] = simulator.stdout.readline().strip().removeprefix("MIRA_API_BASE=")
        doctor = json.loads(run(mira_queue, "doctor", "--json", cwd=app, **variables).stdout)
        assert {check["check"]: check["verdict"] for check in doctor["checks"]}["workers"] == "warning"
        with running(mira_queue, "worker", cwd=app, **variables):
            assert run(programs / "python", "ask.py", cwd=app, **variables).stdout.startswith("Simulated answer to: ")
            answer = run(mira_queue, "enqueue", "--timeout", "60", "Hello", cwd=app, **variables)
            assert answer.stdout == "Simulated answer to: Hello\n"
