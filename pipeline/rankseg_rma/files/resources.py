"""Files that are shipped with the package: configs and dataset cards."""

from pathlib import Path
from typing import Any

import yaml

from rankseg_rma.checks import wrong


def read_yaml(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def resource_dir(kind: str) -> Path:
    """Folder of shipped files, "configs" or "datasets": inside the package when installed, else in the repository."""
    package = Path(__file__).parents[1]
    marker = "*.yaml"
    for folder in (package / kind, package.parents[1] / kind):
        # The readers' own folder is called `datasets` too; it holds no YAML.
        if folder.is_dir() and any(folder.glob(marker)):
            return folder
    raise FileNotFoundError(wrong("resource_dir", "kind", "a folder shipped with the package", kind))
