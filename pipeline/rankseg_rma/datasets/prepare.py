"""`data prepare`: from the official downloads to what training and testing read. The originals are only read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets import Case, DatasetCard, ImageCard, list_cases, load_card
from rankseg_rma.datasets.completeness import count_cases, count_folds, count_lists, count_parts, count_slices
from rankseg_rma.datasets.slices import SliceTask, is_store, make_slices, open_store, read_record, write_store
from rankseg_rma.datasets.voc import (
    Downloads,
    MaskTask,
    convert_mask,
    find_downloads,
    finish_folder,
    is_converted,
    open_folder,
    plan_masks,
)
from rankseg_rma.runs.outcome import Outcome, describe_failure
from rankseg_rma.runs.parallel import choose_workers, run_cases
from rankseg_rma.runs.progress import track

T = TypeVar("T")
# About the size of VOC's photographs; it only decides whether processes are worth starting.
_IMAGE_PIXELS = 500 * 375
_KILLED = "the process that worked on it was killed, for example for lack of memory: try fewer --workers"


def prepare_dataset(
    name: str, root: Path, out: Path | None = None, sbd: Path | None = None, workers: int | None = None
) -> Outcome:
    """Make what a data set needs before 2D training: a slice store, or PASCAL VOC's trainaug masks.

    What an earlier, interrupted run finished is kept; what changed since is made again.

    Args:
        name: name or path of a card.
        root: the original download, unpacked; never written to.
        out: folder to write, outside of ``root``; data sets that are read as they are need none.
        sbd: the Semantic Boundaries Dataset, for PASCAL VOC.
        workers: number of processes; by default one per core when there is enough to do.
    Raises:
        FileNotFoundError, DatasetError: a download is not as its layout says.
        ValueError: ``out`` lies in a download or holds something else, or ``sbd`` is missing.
    """
    card = load_card(name)
    if is_store(root):
        expected = f"the original download of {card.name}"
        raise DatasetError(wrong("prepare", "root", expected, "a slice store", path=root))
    if isinstance(card, ImageCard) and card.layout == "voc":
        return _prepare_masks(card, find_downloads(root, sbd), _require_apart(out, root, sbd), workers)
    if sbd is not None:
        raise ValueError(wrong("prepare", "sbd", "given with pascal_voc only", sbd))
    card, cases = list_cases(card, root)
    if isinstance(card, ImageCard) or card.slices is None:
        notes = [*count_parts(card, cases)] if isinstance(card, ImageCard) else [*count_cases(card, cases)]
        last = f"{card.name} is read as it is: nothing to prepare. {len(cases)} cases in {root}"
        return Outcome(root, notes, last=last)
    return _prepare_slices(card, cases, root, _require_apart(out, root, sbd), workers)


def _require_apart(out: Path | None, *originals: Path | None) -> Path:
    """The folder to write, unless it would put files into a download."""
    if out is None:
        raise ValueError(wrong("prepare", "out", "a folder to write", None, advice="Give --out."))
    for original in originals:
        # Resolved, because a link may lead into a download.
        if original is not None and out.resolve().is_relative_to(original.resolve()):
            raise ValueError(wrong("prepare", "out", f"outside of {original}, which is never written to", out))
    return out


def _run(work: Callable[[T], Any], tasks: Sequence[T], title: str, workers: int, failed: dict[str, str]) -> list[Any]:
    """Results of the tasks that did not fail, with a progress bar; failures are added to ``failed``."""
    results = []
    for result in track(run_cases(work, tasks, workers, _report_death), title, len(tasks)):
        case_id, content, reason = result
        if reason:
            failed[case_id] = reason
        else:
            results.append(content)
    return results


def _report_death(task: Any) -> tuple[str, None, str]:
    case_id = task.case_id if isinstance(task, MaskTask) else task.case.case_id
    return case_id, None, _KILLED


def _prepare_slices(card: DatasetCard, cases: Sequence[Case], root: Path, out: Path, workers: int | None) -> Outcome:
    tasks = _plan_slices(card, cases, root, out)
    # Unfinished from here on: what a run that is killed below leaves must not pass for a whole store.
    open_store(out, card.name)
    finished = [record for task in tasks if (record := read_record(task)) is not None]
    done = {record["case_id"] for record in finished}
    pending = [task for task in tasks if task.case.case_id not in done]
    processes = choose_workers(len(pending), sum(_bytes_of(task) for task in pending), workers)
    failed: dict[str, str] = {}
    made = _run(_make_slices, pending, f"slices of {card.name}", processes, failed)
    store = write_store(out, card, finished + made, failed)
    labels = {task.case.case_id: task.case.label for task in tasks if task.case.label is not None}
    rounded = [labels[record["case_id"]] for record in finished + made if record.get("was_rounded")]
    notes = [f"{len(done)} cases were finished before and left as they are"] if done else []
    unlabelled = len(cases) - len(tasks)
    notes += [f"{unlabelled} cases without a label were left out"] if unlabelled else []
    notes += count_cases(card, [task.case for task in tasks])
    if store is None:
        last = (
            f"the store in {out} is unfinished: put right what failed and run again; {len(finished + made)} cases wait"
        )
        return Outcome(out, notes, failed, last=last, rounded=rounded)
    notes += [*count_slices(card, store), *count_folds(card, out)]
    num_slices, with_slices = len(store["slices"]), len({entry["case_id"] for entry in store["slices"]})
    last = f"{num_slices} slices of {with_slices} cases in {out}; for 3D use the originals as they are"
    return Outcome(out, notes, written=[out / "store.json"], last=last, rounded=rounded)


def _plan_slices(card: DatasetCard, cases: Sequence[Case], root: Path, out: Path) -> list[SliceTask]:
    rule = card.slices
    assert rule is not None
    labelled = [case for case in cases if case.label is not None]
    if not labelled:
        raise DatasetError(wrong("prepare", "data set", "of cases with labels", "none with a label", path=root))
    return [SliceTask(case, root, out, card.name, rule, max(card.labels or {0: ""})) for case in labelled]


def _bytes_of(task: SliceTask) -> int:
    """Size of the image's file; a packed volume has about one byte for a voxel."""
    return task.case.image.stat().st_size if task.case.image.is_file() else 0


def _make_slices(task: SliceTask) -> tuple[str, Any, str]:
    try:
        return task.case.case_id, make_slices(task), ""
    except (ValueError, OSError, MemoryError) as error:
        return task.case.case_id, None, _word_failure(error, task.case.image, task.case.label)


def _word_failure(error: BaseException, path: Path, other: Path | None) -> str:
    """One line that names a file; our own errors mostly name theirs already, and what to do."""
    text = " ".join(str(error).split())
    if isinstance(error, ValueError | FileNotFoundError) and any(str(place) in text for place in (path, other)):
        return text
    return describe_failure(error, path)


def _prepare_masks(card: ImageCard, downloads: Downloads, out: Path, workers: int | None) -> Outcome:
    tasks = plan_masks(downloads, card, out)
    open_folder(out)
    pending = [task for task in tasks if not is_converted(task)]
    failed: dict[str, str] = {}
    processes = choose_workers(len(pending), len(pending) * _IMAGE_PIXELS, workers)
    _run(_convert_mask, pending, "masks of trainaug", processes, failed)
    done = len(tasks) - len(pending)
    notes = [f"{done} masks were finished before and left as they are"] if done else []
    notes += count_lists(card, downloads, len(tasks))
    if failed:
        last = f"{out} is unfinished: put right what failed and run again; {len(tasks) - len(failed)} masks wait"
        return Outcome(out, notes, failed, last=last)
    counts = finish_folder(out, downloads, tasks, card.name)
    last = (
        f"{counts['training']} masks in {out}: {counts['from_voc']} of VOC, {counts['from_sbd']} of SBD; "
        f"the photographs stay in {downloads.voc}"
    )
    return Outcome(out, notes, written=[out / "prepared.json"], last=last)


def _convert_mask(task: MaskTask) -> tuple[str, None, str]:
    try:
        convert_mask(task)
    except (ValueError, OSError) as error:
        return task.case_id, None, _word_failure(error, task.source, task.image)
    return task.case_id, None, ""
