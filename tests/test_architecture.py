"""The house's rules, kept by a machine: imports point downward, the decoder knows no MONAI, nothing sorts."""

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pipeline" / "rankseg_rma"
# What each part may import of ours, beside itself.
ALLOWED = {
    "checks": set(),
    "decoder": {"checks"},
    "evaluation": {"checks"},
    "volumes": {"checks"},
    "probabilities": {"checks", "volumes"},
    "images": {"checks", "volumes"},
    "datasets": {"checks", "volumes", "images"},
    "transforms": {"checks", "decoder", "volumes"},
    "samples": {"checks", "images", "datasets"},
    "networks": {"checks", "datasets"},
    "losses": {"checks", "images"},
    "recipes": {"checks", "datasets", "losses", "networks"},
    "multiscale": {"checks"},
    "distributed": {"checks"},
    "stream": {"checks"},
    "bundles": {"checks", "volumes", "datasets", "networks", "__init__"},
    "inference": {
        "checks",
        "decoder",
        "volumes",
        "probabilities",
        "transforms",
        "bundles",
        "datasets",
        "multiscale",
        "samples",
    },
    "training": {"checks", "datasets", "networks", "distributed"},
    "temperature": {"checks", "volumes", "transforms", "bundles", "inference", "training"},
    "report": {"checks", "evaluation", "__init__"},
}
NO_MONAI = ("checks", "decoder", "evaluation", "volumes", "probabilities", "images", "datasets")


def parts():
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        yield relative.parts[0].removesuffix(".py"), path


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by full name"
            yield node.module


@pytest.mark.parametrize("part", [*ALLOWED])
def test_imports_point_downward(part):
    for name, path in parts():
        if name != part:
            continue
        for module in imports_of(path):
            pieces = module.split(".")
            if pieces[0] == "rankseg_rma":
                target = pieces[1] if len(pieces) > 1 else "__init__"
                assert target in ALLOWED[part] | {part}, f"{path.relative_to(PACKAGE)} imports {module}"
            assert not (part in NO_MONAI and pieces[0] == "monai"), f"{path.relative_to(PACKAGE)} imports {module}"


def test_nothing_imports_the_command_line():
    for name, path in parts():
        if name not in ("cli", "__main__"):
            assert not any(module.startswith("rankseg_rma.cli") for module in imports_of(path)), path


def test_no_sort_outside_the_reference():
    names = {"sort", "argsort", "sorted_values", "topk", "partition", "argpartition", "kthvalue", "msort"}
    for path in (PACKAGE / "decoder").glob("*.py"):
        if path.name == "reference.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
            assert called not in names, f"{path.name} calls {called}"
            assert not (isinstance(node, ast.Import | ast.ImportFrom) and "reference" in ast.dump(node)), path.name


def test_decoder_and_evaluation_open_no_file():
    for part in ("decoder", "evaluation"):
        for path in (PACKAGE / part).glob("*.py"):
            assert not {"pathlib", "io", "nibabel", "pandas"} & set(imports_of(path)), path.name
            text = path.read_text(encoding="utf-8")
            assert not any(word in text for word in ('open("', " open(", "np.load", "torch.load", "np.save")), path.name


def test_modules_are_short():
    for _, path in parts():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


def test_help_answers_in_under_a_second():
    code = (
        "import sys; sys.argv = ['rankseg-rma', '--help']\n"
        "from rankseg_rma.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    code = stop.code\n"
        "heavy = {'torch', 'monai', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert code == 0 and not heavy, (code, heavy)"
    )
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1


def test_readme_is_finished():
    root = PACKAGE.parents[1]
    for name in ("README.md", "DATA.md", "CONTRIBUTING.md"):
        text = (root / name).read_text(encoding="utf-8")
        assert "@@" not in text
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("http") or (root / target).exists(), f"{name} links {target}"
