"""Which files the user means: volumes and photographs by case id."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from rankseg_rma.checks import wrong
from rankseg_rma.datasets.image_layouts import SUFFIXES as LABEL_SUFFIXES
from rankseg_rma.files.listing import is_there, list_named
from rankseg_rma.files.names import case_id_of, compose, group_channels, name_cases
from rankseg_rma.files.volumes import list_volumes

SUFFIXES = (*LABEL_SUFFIXES, ".webp")


def find_inputs(inputs: Sequence[Path]) -> dict[str, Path]:
    """Volumes by case id, from files and folders; each is a case of its own, see `name_cases`.

    Raises:
        FileNotFoundError: a path does not exist, or there is no volume at all.
        ValueError: two files have the same case id.
    """
    return name_cases(list_inputs(inputs))


def find_images(inputs: Sequence[Path], num_channels: int) -> tuple[dict[str, tuple[Path, ...]], list[str]]:
    """Images by case id, from files and folders, with the channels that are files of their own in order.

    Args:
        inputs: files and folders.
        num_channels: channels of the network's input.
    Returns:
        The files of each case, and what the user should be told of how they were read.
    Raises:
        FileNotFoundError: a path does not exist, or there is no image at all.
        ValueError: two files have the same case id, or a case has several files and not one for each channel.
    """
    listed = list_inputs(inputs)
    found = group_channels(listed)
    # A whole folder case_0000, case_0001, ... is how many data sets number their cases, from 0.
    if num_channels == 1 and len(found) == 1 and len(listed) > 1:
        note = f"{min(listed)} to {max(listed)} are read as {len(listed)} cases, for the network takes one channel"
        return {name: (path,) for name, path in listed.items()}, [note]
    for case_id, files in found.items():
        if len(files) not in (1, num_channels):
            expected = "one file" if num_channels == 1 else f"one file, or {num_channels}"
            advice = (
                "Files NAME_0000, NAME_0001, ... are channels of one case, as nnU-Net names them. Give the channels "
                "that the network takes, or, where each is a case of its own, other names."
            )
            got = f"{len(files)}: {files[0]} to {files[-1].name}"
            argument = f"image of {num_channels} channel{'' if num_channels == 1 else 's'}"
            raise ValueError(wrong("find_images", argument, expected, got, case_id=case_id, advice=advice))
    return found, []


def list_inputs(inputs: Sequence[Path]) -> dict[str, Path]:
    """Volumes by file name without suffix, from files and folders; raises as `find_inputs`."""
    expected = "a folder with .nii.gz, .nii, .mha or .nrrd files"
    return collect_files("find_inputs", "case ids", inputs, _volumes_in, expected)


def _volumes_in(path: Path) -> Iterable[tuple[str, Path]]:
    return (list_volumes(path) if path.is_dir() else {case_id_of(path): path}).items()


def collect_files(
    function: str,
    ids: str,
    inputs: Sequence[Path],
    files_in: Callable[[Path], Iterable[tuple[str, Path]]],
    expected: str,
) -> dict[str, Path]:
    """Files by id.

    Args:
        function: who asks, for the messages.
        ids: what the messages call the ids.
        inputs: files and folders.
        files_in: ids and files of one of them.
        expected: what an input should be.
    Raises:
        FileNotFoundError: an input does not exist, or there is no file at all.
        ValueError: two files have the same id.
    """
    found: dict[str, Path] = {}
    for path in inputs:
        if not is_there(path):
            raise FileNotFoundError(wrong(function, "input", "an existing file or folder", path))
        for case_id, file in files_in(path):
            if case_id in found:
                got = f"{found[case_id]} and {file}"
                raise ValueError(wrong(function, ids, "unique", got, case_id=case_id))
            found[case_id] = file
    if not found:
        raise FileNotFoundError(wrong(function, "input", expected, ", ".join(map(str, inputs)) or "nothing"))
    return found


def find_photographs(inputs: Sequence[Path]) -> dict[str, Path]:
    """Image files by name without suffix, from files and folders; a file that is named may have any suffix.

    Raises:
        FileNotFoundError: a path does not exist, or there is no image at all.
        ValueError: two files have the same name.
    """
    expected = "images: " + ", ".join(SUFFIXES)
    return collect_files("find_photographs", "names", inputs, _photographs_in, expected)


def _photographs_in(path: Path) -> Iterator[tuple[str, Path]]:
    # What the user names is a case of theirs: the reader says what is wrong with it, if anything is.
    for file in list_named(path, SUFFIXES) if path.is_dir() else [path]:
        yield compose(file.stem), file
