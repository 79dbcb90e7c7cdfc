"""The metadata that follow from the address of the repository.

The address stands in pyproject.toml, under [tool.hatch.metadata.hooks.custom], and nowhere else.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!\w+:|#)([^)\s]+)\)")


def with_absolute_links(text: str, repository: str, version: str) -> str:
    """A page of the repository, to be read outside it: links and images lead to the tag."""

    def link(match: re.Match[str]) -> str:
        image, words, target = match.groups()
        return f"{image}{words}({repository}/{'raw' if image else 'blob'}/v{version}/{target})"

    return LINK.sub(link, text)


class RepositoryLinks(MetadataHookInterface):
    """Makes `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Hatchling calls this with the table [project], the version included."""
        repository, version = self.config["repository"].rstrip("/"), metadata["version"]
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["urls"] = {}
        if repository:
            text = with_absolute_links(text, repository, version)
            metadata["urls"] = {
                "Repository": repository,
                "Documentation": f"{repository}/tree/v{version}/docs",
                "Changelog": f"{repository}/blob/v{version}/CHANGELOG.md",
                "Issues": f"{repository}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
