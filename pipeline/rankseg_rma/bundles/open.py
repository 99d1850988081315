"""Open a finished bundle for inference. Its config is code: opening one runs what it says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets.card_kinds import Card
from rankseg_rma.datasets.cards import load_card
from rankseg_rma.files.json_files import read_json
from rankseg_rma.files.listing import is_there
from rankseg_rma.files.resources import read_yaml
from rankseg_rma.files.temperature import read_temperature
from rankseg_rma.files.weights import fit_weights, read_weights, require_fit, require_no_nan

if TYPE_CHECKING:
    import torch
    from monai.transforms import Compose

MODEL = "models/model.pt"
TEMPERATURE_FILE = "models/temperature.json"


def find_card(bundle_root: str | Path) -> Card | None:
    """The card of the data set that a run was trained on, as it stands in the run; None in other bundles."""
    configs = Path(bundle_root) / "configs"
    train = configs / "train.yaml"
    path = configs / f"{read_yaml(train).get('dataset_name')}.yaml" if train.is_file() else configs
    return load_card(path) if path.is_file() else None


def find_kind(bundle_root: str | Path) -> str:
    """Kind of a bundle, "volume", "image" or "slices", without opening it."""
    return str(read_yaml(Path(bundle_root) / "configs" / "inference.yaml").get("kind", "volume"))


def find_channels(bundle_root: str | Path) -> int:
    """Channels of the images that a bundle takes, as its config or its metadata.json says; 1 where neither does."""
    configs = Path(bundle_root) / "configs"
    config, metadata = configs / "inference.yaml", configs / "metadata.json"
    told = read_yaml(config).get("in_channels") if config.is_file() else None
    if isinstance(told, int):
        return told
    told = read_json("find_channels", metadata) if metadata.is_file() else None
    for key in ("network_data_format", "inputs", "image", "num_channels"):
        told = told.get(key) if isinstance(told, dict) else None
    return told if isinstance(told, int) else 1


def stored_temperature(bundle_root: str | Path) -> float | None:
    """The temperature that was fitted at the end of training; None when the bundle has none."""
    path = Path(bundle_root) / TEMPERATURE_FILE
    return read_temperature(path) if is_there(path) else None


@dataclass(frozen=True)
class Bundle:
    """What inference needs of a bundle: transforms, network with its weights, sliding window, names.

    Attributes:
        kind: "volume" (a 3D network), "image" (photographs) or "slices" (a 2D network for axial slices of volumes).
        label_names: of the foreground; of every class where kind is "image".
        slice_size: (height, width) that slices were resized to for training; None: as they are.
        notes: what was done to open it that a reader should know.
        in_channels: channels of the network's input; None where the config does not say.
        multilabel: the classes may overlap: sigmoid gives each of them, and no one is the background.
    """

    root: Path
    preprocessing: "Compose"
    network: "torch.nn.Module"
    inferer: Callable[..., Any]
    device: "torch.device"
    label_names: tuple[str, ...]
    temperature: float | None
    kind: str = "volume"
    slice_size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    in_channels: int | None = None
    multilabel: bool = False


def require_exclusive(function: str, bundle: Bundle) -> None:
    """Refuse a bundle whose classes may overlap, where one label map is what is asked for.

    Raises:
        ValueError: its classes may overlap.
    """
    if bundle.multilabel:
        advice = "`rankseg-rma infer` writes a mask for each class, of volumes."
        got = "multilabel, classes that may overlap"
        expected = "one of classes that exclude each other"
        raise ValueError(wrong(function, "bundle", expected, got, path=bundle.root, advice=advice))


def open_bundle(root: str | Path, device: str | None = None, entries: Mapping[str, Any] | None = None) -> Bundle:
    """Open a finished bundle for inference.

    Args:
        root: bundle folder with configs/inference.yaml and models/model.pt. Its config is code.
        device: torch device; default: CUDA where there is one.
        entries: entries of the config to replace, such as ratios, flip and stride_rate of a 2D network; one that is
            None stays as it is.
    Raises:
        ValueError: the config has no such entry.
        FileNotFoundError: a part of the bundle is missing.
        DatasetError: the config lacks an entry, or the weights do not fit the network under one rule, see
            `files.weights`.
    """
    import torch
    from monai.bundle import ConfigParser

    root = Path(root)
    config, weights = root / "configs" / "inference.yaml", root / MODEL
    for path in (config, weights):
        if not path.is_file():
            advice = f"Training writes {MODEL} when it ends; run it again to go on." if path == weights else ""
            raise FileNotFoundError(
                wrong("open_bundle", "bundle", f"a folder with {path.relative_to(root)}", root, advice=advice)
            )
    parser = ConfigParser()
    parser.read_config(str(config))
    parser["bundle_root"] = str(root)
    if device is not None:
        parser["device"] = f"$torch.device({device!r})"
    for name, value in (entries or {}).items():
        if value is not None:
            if name not in parser:
                raise ValueError(wrong("open_bundle", name, "left out: it is for 2D networks", value, path=config))
            parser[name] = value
    missing = [name for name in ("preprocessing", "network", "inferer", "device", "label_names") if name not in parser]
    if missing:
        raise DatasetError(wrong("open_bundle", "config", "complete", f"no {', '.join(missing)}", path=config))
    try:
        # Tried first: a device that is not there is told as such, before a network is built.
        torch.empty(0, device=parser.get_parsed_content("device"))
    except (RuntimeError, AssertionError) as error:
        got = " ".join(str(error.__cause__ or error).split())[:150]
        raise ValueError(wrong("open_bundle", "device", "one that this machine has", f"{device}: {got}")) from error
    network = parser.get_parsed_content("network")
    rule = _load_weights(network, weights)
    kind, size = parser.get("kind", "volume"), parser.get("slice_size")
    names = tuple(parser.get_parsed_content("label_names"))
    multilabel, inferer = _is_multilabel(parser, len(names)), parser.get_parsed_content("inferer")
    if hasattr(inferer, "multilabel"):  # one that averages probabilities makes them itself
        inferer.multilabel = multilabel
    return Bundle(
        root,
        parser.get_parsed_content("preprocessing"),
        network.eval(),
        inferer,
        parser.get_parsed_content("device"),
        # Configs of slices list the background first, which is no label of a mask.
        names[1:] if kind == "slices" and not multilabel else names,
        stored_temperature(root),
        kind,
        tuple(size) if size else None,
        (f"weights of {weights} loaded {rule}",) if rule else (),
        parser.get_parsed_content("in_channels") if "in_channels" in parser else None,
        multilabel,
    )


def _is_multilabel(parser: Any, num_names: int) -> bool:
    """Whether the classes may overlap: the config has ``multilabel``, or its postprocessing has it, or a sigmoid."""
    if "multilabel" in parser:
        return bool(parser.get_parsed_content("multilabel"))
    steps = parser.get("postprocessing")
    return _says(steps, "multilabel") or (num_names > 1 and _says(steps, "sigmoid"))


def _says(content: Any, name: str) -> bool:
    """Whether an entry of that name is true anywhere, for one key or for one of several."""
    if isinstance(content, dict):
        said = content.get(name)
        given = said is True or (isinstance(said, list) and any(one is True for one in said))
        return given or any(_says(part, name) for part in content.values())
    return isinstance(content, list) and any(_says(part, name) for part in content)


def _load_weights(network: "torch.nn.Module", path: Path) -> str:
    """Load a file of weights into the network; returns the rule by which other names became the network's own."""
    own = network.state_dict()
    content = read_weights(path, function="open_bundle", argument="weights")
    fit, expected = fit_weights(content, own), "those of the config's network"
    fit = require_fit(fit, function="open_bundle", argument="weights", expected=expected, path=path)
    require_no_nan(fit.tensors, function="open_bundle", path=path)
    # What the file lacks, the counters of batch norm, stays as it was made.
    network.load_state_dict(own | fit.tensors)
    return fit.rule
