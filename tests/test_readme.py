"""What the README and the documentation tell people to type and to open exists."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from orchestrator import cli
from orchestrator.config import load_experiment

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
)
FENCE = re.compile(r"^```(?:sh|console|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")


def commands(page):
    """Command lines of the fenced shell blocks of a page, comments removed."""
    found = []
    for block in FENCE.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words:
                found.append(words)
    return found


ALL_COMMANDS = [(page, words) for page in PAGES for words in commands(page)]


def named(value):
    page, words = value
    return f"{page.name}: {' '.join(words)}"


def test_readme_shows_the_two_commands_that_do_everything():
    shown = [" ".join(words) for words in commands(ROOT / "README.md")]
    assert shown[:2] == ["make dry-run", "make test"]


@pytest.mark.parametrize(
    "shown", [c for c in ALL_COMMANDS if c[1][0] == "insitu-ct"], ids=named
)
def test_command_line_is_one_the_program_takes(shown):
    _, words = shown
    args = cli._parser().parse_args(words[1:])
    assert callable(args.run)


@pytest.mark.parametrize(
    "shown", [c for c in ALL_COMMANDS if c[1][0] == "make"], ids=named
)
def test_make_target_exists(shown):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in shown[1][1:]:
        if "=" not in target:
            assert target in targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for address in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / address).exists(), f"{page.name} links to {address}"


@pytest.mark.parametrize("name", ["paper.yaml", "dry_run.yaml"])
def test_examples_are_valid_experiments(name):
    assert load_experiment(ROOT / "examples" / name).steps


def test_environment_names_each_dependency_once_and_no_numpy_2():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    names = [re.split(r"[<>=]", line)[0] for line in conda]
    assert len(names) == len(set(names))
    assert "tomopy" in names
    assert "numpy=1.26" in conda
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[<>=]", line)[0].lower() for line in project["dependencies"]}
    renamed = {"matplotlib-base": "matplotlib"}
    extra = {renamed.get(n, n) for n in names} - wanted
    assert extra == {"python", "tomopy", "pip"}, "each is a dependency of the package"
