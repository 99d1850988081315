"""The house's rules, kept by a machine: imports point downward, the decoder knows no MONAI, nothing sorts."""

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pipeline" / "rankseg_rma"
# What each part may import of ours, beside itself and the package root: only what lies below it.
LOWEST = {"checks", "grid", "compiling"}
PURE = LOWEST | {"decoder", "metrics", "statistics"}
DISK = PURE | {"files", "tables", "runs"}
MODELS = DISK | {"datasets", "transforms", "networks", "bundles", "old_names"}
ALLOWED = {
    "checks": set(),
    "compiling": set(),
    "old_names": set(),
    "grid": {"checks"},
    "decoder": LOWEST,
    "metrics": LOWEST,
    "statistics": LOWEST | {"metrics"},
    "files": PURE,
    "tables": PURE | {"files"},
    "runs": PURE | {"files", "tables"},
    "datasets": DISK,
    "transforms": DISK,
    "networks": DISK | {"datasets"},
    "bundles": DISK | {"datasets", "transforms", "networks", "old_names"},
    "prediction": MODELS,
    "training": MODELS | {"prediction"},
    "report": LOWEST | {"metrics", "statistics", "files", "tables", "runs"},
    "evaluation": MODELS | {"prediction", "training", "report"},
    "paper": MODELS | {"prediction", "training", "report", "evaluation"},
    "demo": MODELS | {"prediction", "training", "report", "evaluation", "paper"},
}
NO_MONAI = ("checks", "grid", "compiling", "decoder", "metrics", "statistics", "files", "tables", "runs", "report")
# No room holds more of the package than this.
LARGEST_SHARE = 0.2
LONGEST_FUNCTION = 70
MEDIAN_FUNCTION = 12


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
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                # What the root itself holds is no part: its version, and what it passes on for users and configs.
                if whole != "rankseg_rma.__version__":
                    yield whole if node.module == "rankseg_rma" or is_module(whole) else node.module


def is_module(name):
    place = PACKAGE.parent.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


@pytest.mark.parametrize("part", [*ALLOWED])
def test_imports_point_downward(part):
    for name, path in parts():
        if name != part:
            continue
        for module in imports_of(path):
            pieces = module.split(".")
            if pieces[0] == "rankseg_rma":
                assert len(pieces) > 1 and pieces[1] in ALLOWED[part] | {part}, (
                    f"{path.relative_to(PACKAGE)} imports {module}"
                )
            assert not (part in NO_MONAI and pieces[0] == "monai"), f"{path.relative_to(PACKAGE)} imports {module}"


def test_nothing_imports_the_command_line():
    for name, path in parts():
        if name not in ("cli", "__main__"):
            assert not any(module.startswith("rankseg_rma.cli") for module in imports_of(path)), path


def test_no_sort_outside_the_reference():
    names = {"sort", "argsort", "sorted_values", "topk", "partition", "argpartition", "kthvalue", "msort"}
    for path in (PACKAGE / "decoder").glob("*.py"):
        if path.name in ("reference.py", "temperature.py"):  # the second one puts sampled places in order
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
            assert called not in names, f"{path.name} calls {called}"
            assert not (isinstance(node, ast.Import | ast.ImportFrom) and "reference" in ast.dump(node)), path.name


def test_every_part_has_its_place_and_no_two_import_each_other():
    outside = {"__init__", "__main__", "cli"}
    assert {name for name, _ in parts()} - outside == {*ALLOWED}
    for part, below in ALLOWED.items():
        assert all(part not in ALLOWED[other] for other in below), part


def graph_of_modules():
    """What each module imports of ours and of MONAI, also within functions."""
    graph = {}
    for _, path in parts():
        module = ".".join(["rankseg_rma", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        graph[module] = {name for name in imports_of(path) if name.startswith(("rankseg_rma", "monai"))}
    return graph


def test_no_circle():
    graph, done = graph_of_modules(), set()

    def walk(module, above):
        assert module not in above, f"a circle: {' -> '.join([*above, module])}"
        for below in graph.get(module, set()) if module not in done else ():
            walk(below, [*above, module])
        done.add(module)

    for module in graph:
        walk(module, [])


def test_saved_probabilities_are_decoded_without_monai():
    graph, reached, waiting = graph_of_modules(), set(), ["rankseg_rma.prediction.masks"]
    while waiting:
        module = waiting.pop()
        reached.add(module)
        packages = [module.rsplit(".", count)[0] for count in range(1, module.count(".") + 1)]
        waiting += {*graph.get(module, set()), *packages} - reached - {"rankseg_rma"}  # which names types only
    assert not [module for module in reached if module.startswith("monai")]
    assert not reached & {"rankseg_rma.prediction.predict", "rankseg_rma.transforms", "rankseg_rma.bundles.open"}


def test_no_room_is_too_large():
    lines = {}
    for name, path in parts():
        lines[name] = lines.get(name, 0) + len(path.read_text(encoding="utf-8").splitlines())
    assert max(lines.values()) <= LARGEST_SHARE * sum(lines.values()), lines


def test_pure_parts_open_no_file():
    for part in ("decoder", "metrics", "statistics"):
        for path in (PACKAGE / part).glob("*.py"):
            assert not {"pathlib", "io", "nibabel", "pandas"} & set(imports_of(path)), path.name
            text = path.read_text(encoding="utf-8")
            assert not any(word in text for word in ('open("', " open(", "np.load", "torch.load", "np.save")), path.name


def test_functions_are_short():
    lengths = {}
    for _, path in parts():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                lengths[f"{path.relative_to(PACKAGE)}:{node.name}"] = node.end_lineno - node.lineno + 1
    assert not {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION}
    assert statistics.median(lengths.values()) <= MEDIAN_FUNCTION


def test_help_loads_nothing_heavy():
    """The help answers at once because it imports none of these; seconds would depend on the machine."""
    code = (
        "import sys; sys.argv = ['rankseg-rma', *sys.argv[1:]]\n"
        "from rankseg_rma.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    code = stop.code\n"
        "heavy = {'torch', 'monai', 'ignite', 'numpy', 'scipy', 'numba', 'pandas', 'matplotlib', 'nibabel',\n"
        "         'SimpleITK', 'PIL', 'jinja2', 'yaml', 'asyncio'} & set(sys.modules)\n"
        "assert code == 0 and not heavy, (code, heavy)"
    )
    for words in (["--help"], ["train", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-500:]


def slugs(text):
    """Names by which headings are linked."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_is_finished():
    root = PACKAGE.parents[1]
    documents = [root / name for name in ("README.md", "DATA.md", "CONTRIBUTING.md")]
    for document in [*documents, *sorted((root / "docs").glob("*.md"))]:
        text = document.read_text(encoding="utf-8")
        assert "@@" not in text
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            place, _, heading = target.partition("#")
            file = document.parent / place if place else document
            assert target.startswith("http") or file.exists(), f"{document.name} links {target}"
            if heading and not target.startswith("http"):
                assert heading in slugs(file.read_text(encoding="utf-8")), f"{document.name} links {target}"
