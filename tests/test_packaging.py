"""What is said at several places about the package is the same everywhere, and what installation needs is there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import transfer_study

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_version_is_the_same_everywhere():
    version = transfer_study.__version__
    assert f"version = {version}\n" in (ROOT / "settings.ini").read_text()
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"\n## {version} (" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_pin_every_dependency_within_its_bounds():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    pinned = {canonicalize_name(name): version for name, version in pinned.items()}
    extras = PYPROJECT["project"]["optional-dependencies"]
    for text in [*PYPROJECT["project"]["dependencies"], *(text for extra in extras.values() for text in extra)]:
        requirement = Requirement(text)
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, text
    assert [line for line in lines[1:] if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_the_wheel_check_finds_its_tests_and_says_what_it_takes():
    done = subprocess.run([sys.executable, "tools/check_wheel.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "PYTHON" in done.stdout and "--wheel" in done.stdout
    tests = re.search(r"(?s)\nTESTS = \((.*?)\)", (ROOT / "tools" / "check_wheel.py").read_text()).group(1)
    assert [name for name in re.findall(r'"([^"]+)"', tests) if not (ROOT / "tests" / name).is_file()] == []


@pytest.mark.parametrize("path", [*ROOT.glob(".github/**/*.yml"), ROOT / ".pre-commit-config.yaml"], ids=lambda path: path.name)
def test_configuration_is_yaml_and_names_what_exists(path):
    text = path.read_text()
    assert yaml.safe_load(text)
    assert [name for name in re.findall(r"\b(?:tools|tests)/[\w/]+(?:\.py)?", text) if not (ROOT / name).exists()] == []
