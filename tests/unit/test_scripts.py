"""Scripts of the ledger: each has a complete header, and is loaded with the libraries that it uses."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from mira_queue.ledger.script_runner import CONSTANTS_MS, script_hash, scripts

ROOT = files("mira_queue.ledger") / "scripts"
LIBRARIES = {file.name.removesuffix(".lua"): file.read_text(encoding="utf-8") for file in (ROOT / "lib").iterdir()}


def defined(library: str) -> list[str]:
    """The functions and the names of keys that a library defines."""
    keys = re.search(r"^local ([A-Z, ]+) = unpack\(KEYS\)$", library, re.MULTILINE)
    return re.findall(r"^local function (\w+)", library, re.MULTILINE) + (keys[1].split(", ") if keys else [])


def own_text(name: str) -> str:
    return (ROOT / f"{name}.lua").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", scripts())
def test_a_header_says_what_a_script_does_and_why_it_is_atomic_and_its_interface(name: str) -> None:
    header = [line for line in own_text(name).splitlines() if line.startswith("-- ")]

    assert re.match(r"-- [A-Z][a-z]+ .*", header[0])
    for part in ("Why atomic: ", "KEYS  ", "Returns "):
        assert sum(line.startswith(f"-- {part}") for line in header) == 1, part
    assert ("-- ARGV  " in own_text(name)) == ("ARGV" in re.sub(r"--.*", "", own_text(name)))


@pytest.mark.parametrize("name", scripts())
def test_a_script_is_loaded_with_the_libraries_that_it_uses_and_no_other(name: str) -> None:
    code = re.sub(r"--.*", "", own_text(name))
    uses = re.search(r"^-- Uses +(.+)$", own_text(name), re.MULTILINE)

    used = {
        library for library, text in LIBRARIES.items() if any(re.search(rf"\b{name}\b", code) for name in defined(text))
    }
    assert used == set(uses[1].split(", ") if uses else [])
    assert all(LIBRARIES[library] in scripts()[name] for library in used)
    assert scripts()[name].endswith(own_text(name))


@pytest.mark.parametrize("constant", CONSTANTS_MS)
def test_every_constant_is_used_and_written_nowhere_else(constant: str) -> None:
    texts = [own_text(name) for name in scripts()] + list(LIBRARIES.values())

    assert any(constant in text for text in texts)
    assert not any("604800000" in text for text in texts)


def test_scripts_of_the_same_name_in_two_folders_are_different_scripts() -> None:
    assert script_hash("jobs/release") != script_hash("pace/release")
