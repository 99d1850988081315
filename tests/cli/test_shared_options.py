"""Options that commands share: declared once, seen by each of them, and passed on as they were typed."""

import inspect
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from rankseg_rma.cli import app, evaluation, prediction
from rankseg_rma.cli.shared import spread
from rankseg_rma.evaluation.options import EvaluationOptions


@dataclass(frozen=True)
class Paint:
    """Options of this test."""

    colour: Annotated[str, typer.Option(help="Of the wall.")]
    coats: Annotated[int, typer.Option("--layers")] = 2


def test_fields_are_options():
    said = []
    small = typer.Typer()

    @small.command()
    @spread
    def paint(wall: Annotated[str, typer.Argument()], paint: Paint, dry: bool = True) -> None:
        """Paint a wall."""
        said.append((wall, paint, dry))

    result = CliRunner().invoke(small, ["north", "--colour", "red", "--no-dry"])
    assert result.exit_code == 0 and said == [("north", Paint("red", 2), False)]
    assert CliRunner().invoke(small, ["north", "--colour", "red", "--layers", "3"]).exit_code == 0
    assert said[1] == ("north", Paint("red", 3), True)
    assert CliRunner().invoke(small, ["north"]).exit_code == 2
    text = CliRunner().invoke(small, ["--help"]).output
    assert (
        all(word in text for word in ("--colour", "Of the wall.", "--layers", "Paint a wall.")) and "Paint(" not in text
    )


@pytest.mark.parametrize(
    ("module", "commands", "options"),
    [
        (evaluation, ("evaluate", "compare"), evaluation.ScoringOptions),
        (prediction, ("infer", "decode"), prediction.DecodingOptions),
    ],
)
def test_commands_share_every_option(module, commands, options):
    for name in commands:
        seen = inspect.signature(getattr(module, name)).parameters
        for field in fields(options):
            assert (seen[field.name].annotation, seen[field.name].default) == (field.type, field.default), field.name
        assert all(parameter.annotation is not options for parameter in seen.values())


@pytest.fixture
def asked(monkeypatch):
    """What a command asks of an evaluation."""
    found = []
    monkeypatch.setattr(
        "rankseg_rma.evaluation.evaluate.evaluate_masks",
        lambda predictions, references, out, options: found.append(options),
    )
    monkeypatch.setattr(
        "rankseg_rma.evaluation.compare.compare_folders",
        lambda folders, references, out, validation, options: found.append(options),
    )

    def ask(command, *more):
        folders = ["a", "b"] if command == "compare" else ["--predictions", "a"]
        result = CliRunner().invoke(app, [command, *folders, "--references", "r", "--out", "o", *more])
        assert result.exit_code == 0, (result.output, result.exception)
        return found.pop()

    return ask


def test_nothing_asked_is_the_default(asked):
    expected = EvaluationOptions(workers=None, report=True)
    assert asked("evaluate") == expected
    assert asked("compare") == EvaluationOptions(workers=None, report=True, slices=True)


@pytest.mark.parametrize(
    ("command", "more", "slices"),
    [
        ("evaluate", (), False),
        ("evaluate", ("--slices",), True),
        ("evaluate", ("--no-slices",), False),
        ("evaluate", ("--unit", "slice"), True),
        ("compare", (), True),
        ("compare", ("--slices",), True),
        ("compare", ("--no-slices",), False),
    ],
)
def test_slices_by_command(asked, command, more, slices):
    assert asked(command, *more).slices is slices


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_everything_asked_arrives(asked, command):
    found = asked(
        command, "--labels", "1=liver,2=tumour", "--region", "both=1+2", "--lesions", "tumour", "--organ", "1",
        "--slices", "--slice-axis", "2", "--no-surface", "--tolerances", "3", "--edge-is-inside", "--connectivity", "6",
        "--empty", "monai", "--protocol", "nnunet", "--metric", "iou", "--cluster", "pair", "--limit", "4",
        "--probabilities", "p", "--images", "i", "--workers", "2", "--no-report",
    )  # fmt: skip
    assert found == EvaluationOptions(
        label_names={1: "liver", 2: "tumour"}, regions={"both": (1, 2)}, lesions=["tumour"], organ=(1,), slices=True,
        slice_axis=2, surface=False, tolerances_mm=(3.0,), edge_is_inside=True, connectivity=6, empty_policy="monai",
        protocol="nnunet", metric="iou", cluster="pair", limit=4, probabilities=Path("p"), images=Path("i"), workers=2,
        report=False,
    )  # fmt: skip


def test_help_says_why_the_default_of_slices_differs():
    for command in ("evaluate", "compare"):
        text = " ".join(CliRunner().invoke(app, [command, "--help"]).output.replace("│", " ").split())
        assert "Default: compare does, since its folders may be decoded for either unit; evaluate" in text


def test_help_of_a_command_loads_nothing_heavy():
    code = (
        "import sys\nfrom rankseg_rma.cli import app\n"
        "for command in ('evaluate', 'compare', 'infer', 'decode'):\n"
        "    try:\n        app([command, '--help'])\n    except SystemExit as stop:\n        assert stop.code == 0\n"
        "heavy = {'torch', 'monai', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
