"""What the documents say is so: their commands parse, their options, names and paths exist, README stays short."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import typer

from rankseg_rma.cli import app
from rankseg_rma.old_names import MOVED
from test_architecture import ALLOWED, parts

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / name for name in ("README.md", "DATA.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").glob("*.md"))
MOST_BYTES_OF_README = 10_000
# Options of other programs that the documents name.
FOREIGN = {"--durations"}


def shell_lines(text):
    """What calls our command, in code blocks (continued lines joined, comments left out) and in the text, as words."""
    blocks = [line for line in text.replace("\\\n", " ").splitlines() if line.startswith("    ")]
    for line in blocks + [code for code in code_in(text) if " --" in code]:
        words = shlex.split(line, comments=True) if "rankseg" in line else []
        if words[:1] == ["rankseg-rma"]:
            yield words[1:]
        elif words[:1] == ["torchrun"]:
            yield words[words.index("rankseg_rma") + 1 :]


def parse(words):
    """Let the command line parse words without running anything; it raises what a user would read."""
    command, name = typer.main.get_command(app), "rankseg-rma"
    while hasattr(command, "commands"):
        assert words and words[0] in command.commands, f"{name} has no command {words[:1]}"
        name, command, words = words[0], command.commands[words[0]], words[1:]
    command.make_context(name, list(words))


def all_options():
    def walk(command):
        for parameter in command.params:
            yield from (option for option in (*parameter.opts, *parameter.secondary_opts) if option.startswith("--"))
        for one in getattr(command, "commands", {}).values():
            yield from walk(one)

    return {*walk(typer.main.get_command(app)), "--help"}


def code_in(text):
    """Code between single backquotes."""
    return re.findall(r"(?<!`)`([^`]+)`(?!`)", text)


def test_readme_is_one_reading():
    assert len((ROOT / "README.md").read_bytes()) <= MOST_BYTES_OF_README


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_are_as_the_command_line_takes_them(document):
    for words in shell_lines(document.read_text(encoding="utf-8")):
        try:
            parse(words)
        except Exception as error:
            raise AssertionError(f"{document.name}: rankseg-rma {' '.join(words)}: {error}") from error


def test_the_documents_show_commands():
    shown = {words[0] for document in DOCUMENTS for words in shell_lines(document.read_text(encoding="utf-8"))}
    assert shown >= {
        "train",
        "infer",
        "decode",
        "evaluate",
        "compare",
        "advise",
        "figures",
        "test",
        "reproduce",
        "data",
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_options_in_the_text_exist(document):
    known = all_options() | FOREIGN
    named = {option for code in code_in(document.read_text(encoding="utf-8"))
             for option in re.findall(r"(?<!\S)--[a-z][\w-]*", code)}  # fmt: skip
    assert named <= known, sorted(named - known)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_names_of_the_package_are_those_of_today(document):
    for name in set(re.findall(r"\brankseg_rma((?:\.\w+)+)", document.read_text(encoding="utf-8"))):
        pieces = name[1:].split(".")
        assert ".".join(pieces[:-1]) not in MOVED, f"rankseg_rma{name} is an old name"
        found = import_module("rankseg_rma")
        for depth, piece in enumerate(pieces):
            if not hasattr(found, piece):
                import_module(".".join(["rankseg_rma", *pieces[: depth + 1]]))
            found = getattr(found, piece)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_in_the_text_exist(document):
    top = "|".join(("tests", "benchmarks", "configs", "notebooks", "docs", "pipeline"))
    for code in code_in(document.read_text(encoding="utf-8")):
        for path in re.findall(rf"(?<!\S)(?:{top})/[\w/.]*", code):
            in_run_folder = path == "configs/datalist.json"
            assert in_run_folder or (ROOT / path).exists(), f"{document.name} names {path}"


def test_the_import_table_is_that_of_the_architecture_test():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([`*][^|]*) \| ([^|]*) \|$", text, flags=re.MULTILINE)
    groups, written = {}, {}
    for names, cell in rows:
        allowed = set()
        for word in cell.split(", ") if cell != "nothing" else ():
            allowed |= groups.get(word, {word})
        for name in re.findall(r"\w+", names):
            (groups if names.startswith("*") else written)[name] = allowed
    assert written == ALLOWED


def test_the_tree_has_a_line_for_each_part():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    lines = re.findall(r"^      (\w+)(?:/|\.py) +(?:\S+ ){2}", text, flags=re.MULTILINE)
    assert len(lines) == len(set(lines))
    assert set(lines) == {name for name, _ in parts()} - {"__init__", "__main__"}
    # From above to below: nobody imports what stands above it.
    place = {name: number for number, name in enumerate(lines)}
    upward = [(part, below) for part in ALLOWED for below in ALLOWED[part] if place[below] < place[part]]
    assert not upward
