"""Names of earlier versions, in one place: run folders and scripts that say them go on working.

Configs of finished runs import modules such as ``rankseg_rma.losses``, in ``python -m monai.bundle run`` too, which
never passes our opener. So old modules are found where Python looks for modules, and each of their names is looked up
where it lives today. Configs that are written now say names of the package root alone.
"""

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

# Modules that are gone, and those of a folder's name today; where to look for what they held.
MOVED = {
    "bundles": ("bundles.write", "bundles.open", "files.temperature"),
    "distributed": ("training.distributed",),
    "evaluation": ("metrics", "statistics.differences"),
    "evaluation.calibration": ("metrics.calibration",),
    "evaluation.calibration_sums": ("statistics.calibration",),
    "evaluation.lesions": ("metrics.lesions",),
    "evaluation.lits": ("metrics.lits",),
    "evaluation.masks": ("metrics.masks",),
    "evaluation.metric": ("metrics.metric",),
    "evaluation.overlap": ("metrics.overlap", "metrics.masks"),
    "evaluation.quality": ("statistics.quality",),
    "evaluation.resampling": ("statistics.resampling",),
    "evaluation.semantic": ("metrics.semantic", "statistics.forms"),
    "evaluation.size": ("metrics.size",),
    "evaluation.surface": ("metrics.surface",),
    "evaluation.threshold": ("decoder.threshold",),
    "evaluation.volumetry": ("statistics.agreement",),
    "images": ("files.images", "datasets.slices"),
    "inference": ("prediction.predict", "prediction.masks", "prediction.policy"),
    "losses": ("training.losses",),
    "multiscale": ("prediction.multiscale",),
    "probabilities": ("files.probabilities",),
    "recipes": ("training.recipes",),
    "samples": ("training.samples", "datasets.datalist"),
    "stream": ("training.stream",),
    "temperature": ("training.calibrate", "decoder.temperature"),
    "training": ("training.engine", "datasets.datalist"),
    "report.columns": ("tables.dictionary",),
    "report.columns_of_tests": ("tables.columns_of_paper", "tables.columns_of_evaluation"),
    "report.content": ("tables.frames",),
    "report.figures": ("report.palette",),
    "report.tables": ("report.terminal", "evaluation.foreign_files"),
    "volumes": ("files.volumes", "grid", "files.writing"),
    "workflows": (),
    "workflows.advise": ("evaluation.advise",),
    "workflows.cohort": ("evaluation.cohort",),
    "workflows.compare": ("evaluation.compare",),
    "workflows.comparison": ("evaluation.paired", "tables.columns_of_evaluation"),
    "workflows.data": ("datasets.check", "datasets.phantom"),
    "workflows.demo": ("demo",),
    "workflows.evaluation": ("evaluation.evaluate", "evaluation.options", "evaluation.inputs", "evaluation.plan"),
    "workflows.inference": ("prediction.infer", "prediction.masks", "prediction.policy", "prediction.inputs"),
    "workflows.outcome": ("runs.outcome", "runs.progress", "tables.store", "decoder.arms"),
    "workflows.outputs": ("evaluation.outputs", "evaluation.cohort", "runs.manifest"),
    "workflows.parallel": ("runs.parallel",),
    "workflows.photographs": ("prediction.photographs", "prediction.inputs"),
    "workflows.pictures": ("report.pictures", "report.examples"),
    "workflows.prepare": ("datasets.prepare",),
    "workflows.protocols": ("evaluation.protocols", "evaluation.foreign_files"),
    "workflows.reporting": ("report.build", "report.redraw"),
    "workflows.reproduce": ("paper.reproduce", "training.settings"),
    "workflows.reproduce_rows": ("paper.rows",),
    "workflows.reproduce_tables": ("paper.published",),
    "workflows.scoring": ("evaluation.case", "evaluation.structures"),
    "workflows.testing": ("paper.score_run", "datasets.datalist"),
    "workflows.testing_items": ("paper.items",),
    "workflows.testing_tables": ("paper.scores",),
    "workflows.training": ("training.train",),
}
# What is called otherwise in the package root.
_RENAMED = {
    "losses.CrossEntropy": "CrossEntropyLoss",
    "losses.Focal": "FocalLoss",
    "losses.Dice": "DiceLoss",
    "losses.DiceCrossEntropy": "DiceCrossEntropyLoss",
    "losses.JaccardMetric": "JaccardMetricLoss",
}
# How volumes were read, beside the keys; files in millimetres, all that it read well, are read alike today.
_OLD_READING = {"_target_": "LoadImaged", "ensure_channel_first": True, "image_only": True}
_READING = {"_target_": "rankseg_rma.LoadVolumed", "keys": ["image", "label"]}
# What stands after the reading of volumes today, so that an unfinished run of before may go on: whole labels stay as
# they are; others were cut off then, and are rounded or refused now.
_WHOLE_LABELS = {"_target_": "rankseg_rma.WholeLabelsd", "keys": "label", "num_classes": "@num_classes"}
# What saved the final weights, and on errors too, with a key that tells it from the saver of each epoch.
_OLD_FINAL = {"_target_": "CheckpointSaver", "final_filename": "model.pt"}
_FINAL = "rankseg_rma.FinalCheckpoint"
# What stands before the start of a training today; the command added it itself before.
_START = "$@train::trainer.run()"
_GUARD = "$rankseg_rma.FiniteGuard(@network).attach(@train::trainer)"
_IMPORT = re.compile(r"\$import rankseg_rma\.(\w+) as (\w+)$")


def resolve(old: str, name: str) -> Any:
    """What ``rankseg_rma.<old>`` held under a name in earlier versions.

    Raises:
        AttributeError: it held no such thing.
    """
    if not name.startswith("_"):
        for place in MOVED[old]:
            module = import_module(f"rankseg_rma.{place}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module 'rankseg_rma.{old}' has no attribute {name!r}")


class _OldModules:
    """Finder and loader of the modules that are gone."""

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        package, _, old = name.partition(".")
        if package != "rankseg_rma" or old not in MOVED:
            return None
        # A folder that is gone must be one again, for Python to look for modules in it.
        return ModuleSpec(name, cls, is_package=any(one.startswith(f"{old}.") for one in MOVED))  # type: ignore[arg-type]

    @classmethod
    def create_module(cls, spec: ModuleSpec) -> ModuleType:
        return ModuleType(spec.name, "Names of an earlier version; see `rankseg_rma.old_names`.")

    @classmethod
    def exec_module(cls, module: ModuleType) -> None:
        old = module.__name__.partition(".")[2]
        module.__getattr__ = lambda name: resolve(old, name)  # type: ignore[method-assign]


def find_old_modules() -> None:
    """Let Python find the modules that are gone; it looks here last, so that what exists is never hidden."""
    if _OldModules not in sys.meta_path:
        sys.meta_path.append(_OldModules)


def translate_config(content: Any) -> Any:
    """A config of an earlier version, parsed from its YAML, in the names of today; a config of today stays as it is."""
    imports = content.get("imports") if isinstance(content, dict) else None
    found = [_IMPORT.match(str(line)) for line in imports or ()]
    aliases = [match.group(2) for match in found if match]
    translated = _translate(content, aliases)
    if aliases:
        kept = [line for line, match in zip(imports or (), found, strict=True) if not match]
        translated["imports"] = [*(line for line in kept if line != "$import rankseg_rma"), "$import rankseg_rma"]
    if isinstance(translated, dict):
        _add_steps(translated)
    return translated


def _name_of_root(match: re.Match[str]) -> str:
    """What a name of an old module is called in the root; a module of today keeps its place."""
    module, name = match.groups()
    if (Path(__file__).parent / module / f"{name}.py").is_file():
        return match.group()
    return "rankseg_rma." + _RENAMED.get(f"{module}.{name}", name)


def _add_steps(content: dict[str, Any]) -> None:
    """Put in what earlier versions did not say."""
    chain, steps = content.get("deterministic_transforms"), content.get("run")
    if isinstance(chain, list) and chain[:1] == [_READING] and _WHOLE_LABELS not in chain:
        content["deterministic_transforms"] = [chain[0], dict(_WHOLE_LABELS), *chain[1:]]
    if isinstance(steps, list) and _START in steps and _GUARD not in steps:
        place = steps.index(_START)
        content["run"] = [*steps[:place], _GUARD, *steps[place:]]


def _translate(value: Any, aliases: Sequence[str]) -> Any:
    if isinstance(value, dict) and _OLD_FINAL.items() <= value.items():
        return _translate({**value, "_target_": _FINAL}, aliases)
    if isinstance(value, dict) and "keys" in value and value == {**_OLD_READING, "keys": value["keys"]}:
        return {**_READING, "keys": value["keys"]}
    if isinstance(value, dict):
        return {key: _translate(one, aliases) for key, one in value.items()}
    if isinstance(value, list):
        return [_translate(one, aliases) for one in value]
    if not isinstance(value, str):
        return value
    modules = "|".join(["networks", *(name for name in MOVED if "." not in name and name != "workflows")])
    value = re.sub(rf"\brankseg_rma\.({modules})\.(\w+)", _name_of_root, value)
    if aliases and value.startswith("$"):
        value = re.sub(rf"(?<![\w.:@])({'|'.join(aliases)})\.(?=\w)", "rankseg_rma.", value)
    return value
