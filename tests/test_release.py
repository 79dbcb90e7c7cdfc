"""The files of a release: metadata, changelog and workflows agree. .ci/run builds and uses them."""

import re
from pathlib import Path

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

import dncx

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ADDRESS = "https://example.org/owner/dncx"


def metadata(repository):
    """The table [project] as a build computes it, for an address of the repository."""
    project = ProjectMetadata(str(ROOT), PluginManager())
    project.config["tool"]["hatch"]["metadata"]["hooks"]["custom"]["repository"] = repository
    return project.core


def targets(page):
    """What the links of a page lead to."""
    return re.findall(r"\]\(([^)\s]+)\)", page)


def test_one_version():
    assert metadata("").config["version"] == dncx.__version__
    assert not re.search("^version:", (ROOT / "CITATION.cff").read_text(), re.M)


def test_the_changelog_begins_with_what_is_unreleased_and_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    first, second = re.findall(r"^## (.*)", text, re.M)[:2]
    assert first == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(dncx.__version__)}\] - \d{{4}}-\d\d-\d\d", second)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)", text, re.M)) <= kinds


def test_without_an_address_the_readme_is_unchanged():
    core = metadata("")
    assert core.readme == (ROOT / "README.md").read_text()
    assert core.urls == {}


def test_the_address_makes_all_links_absolute():
    core = metadata(ADDRESS)
    tag = f"v{dncx.__version__}"
    links = targets(core.readme)
    assert all(link.startswith("https://") for link in links)
    assert f"{ADDRESS}/raw/{tag}/docs/images/architecture.svg" in links
    assert f"{ADDRESS}/blob/{tag}/docs/how-to.md#train-a-layer-with-optax" in links
    assert len(links) == len(targets((ROOT / "README.md").read_text()))
    assert core.urls["Changelog"] == f"{ADDRESS}/blob/{tag}/CHANGELOG.md"


def test_the_wheel_has_less_than_3_mb(tmp_path):
    """Weights that are not rounded make it larger: see docs/results/round_weights.py."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    assert Path(wheel).stat().st_size < 3_000_000


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_what_exists_with_the_least_permissions(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    makefile = (ROOT / "Makefile").read_text()
    commands = []
    for job in workflow["jobs"].values():
        commands += [step["run"] for step in job["steps"] if "run" in step]
    for target in re.findall(r"^make (\w+)", "\n".join(commands), re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
    scripts = re.findall(r"^\.ci/\S+", "\n".join(commands), re.M)
    assert all((ROOT / script).is_file() for script in scripts)
    assert any(command.startswith("make ") for command in commands)


def test_only_publishing_may_do_more():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["environment"] == "pypi"
    assert "permissions" not in jobs["build"]
