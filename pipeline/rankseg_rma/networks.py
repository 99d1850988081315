"""Network definitions by name, and the two-dimensional networks of segmentation_models_pytorch with timm's encoders."""

import difflib
from pathlib import Path
from typing import Any

import torch
import yaml

from rankseg_rma.checks import require_one_of, wrong
from rankseg_rma.files.resources import resource_dir
from rankseg_rma.files.weights import fit_weights, read_weights, require_fit, unwrapped

OPTIMIZERS = ("adamw", "sgd")
# What differs from the library's defaults: the networks of the paper's experiments, without their auxiliary heads.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "unet": {},
    "deeplabv3plus": {"encoder_output_stride": 8, "decoder_channels": 512, "decoder_aspp_dropout": 0.1},
    "pspnet": {"encoder_depth": 5, "output_stride": 8, "psp_out_channels": 512, "psp_dropout": 0.1},
    "upernet": {"decoder_channels": 512},
    "segformer": {"decoder_segmentation_channels": 512},
}
# Names that the library knows the encoders by; "tu-" are timm's, with the tag of their weights.
ENCODERS = {
    "resnet18": "tu-resnet18.a1_in1k",
    "resnet50d": "tu-resnet50d.ra2_in1k",
    "resnet101d": "tu-resnet101d.ra2_in1k",
    "convnext_base": "tu-convnext_base.fb_in22k_ft_in1k_384",
    **{f"mit_b{size}": f"mit_b{size}" for size in range(6)},
}
_CLASSIFIER_HEADS = ("fc.", "head.", "classifier.")


def list_networks() -> dict[str, Path]:
    """Names and files of the shipped network definitions."""
    return {path.stem: path for path in sorted((resource_dir("configs") / "networks").glob("*.yaml"))}


def network_config(name_or_path: str) -> dict[str, Any]:
    """The MONAI config of a network, by shipped name or by the path of a YAML file with the entry ``network_def``.

    Raises:
        ValueError: unknown name, or a file without ``network_def``.
    """
    shipped = list_networks()
    path = shipped.get(name_or_path, Path(name_or_path))
    if not path.is_file():
        close = difflib.get_close_matches(name_or_path, shipped, n=1)
        advice = f"Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            wrong("network_config", "network", "one of " + ", ".join(shipped), repr(name_or_path), advice=advice)
        )
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or "network_def" not in content:
        raise ValueError(wrong("network_config", "network", "a YAML file with the entry network_def", path))
    definition: dict[str, Any] = content["network_def"]
    return definition


def spatial_dims_of(definition: dict[str, Any]) -> int | None:
    """Whether a network is for images (2) or volumes (3), as its definition says; None when it does not say."""
    if str(definition.get("_target_", "")).endswith(".natural_network"):
        return 2
    if isinstance(definition.get("network"), dict):
        return spatial_dims_of(definition["network"])
    dims = definition.get("spatial_dims")
    return dims if dims in (2, 3) else None


class PaddedNetwork(torch.nn.Module):
    """A network that takes any size: input is padded to a multiple with its border, output is cut back.

    Args:
        network: from (batch, channel, *spatial) to (batch, class, *spatial) of the same size.
        multiple: what the network needs each size to be a multiple of.
    """

    def __init__(self, network: torch.nn.Module, multiple: int) -> None:
        super().__init__()
        self.network, self.multiple = network, multiple

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        shape = image.shape[2:]
        missing = [-size % self.multiple for size in shape]
        if not any(missing):
            whole: torch.Tensor = self.network(image)
            return whole
        # `pad` counts the axes from the last.
        padding = [amount for after in reversed(missing) for amount in (0, after)]
        logits: torch.Tensor = self.network(torch.nn.functional.pad(image, padding, mode="replicate"))
        place: tuple[Any, ...] = (..., *(slice(size) for size in shape))
        return logits[place]


def encoder_of(network: torch.nn.Module) -> torch.nn.Module | None:
    """The encoder inside a network, under whatever wraps it; None when it has none."""
    # DistributedDataParallel calls what it wraps `module`, `PaddedNetwork` calls it `network`.
    while isinstance(inner := getattr(network, "module", getattr(network, "network", None)), torch.nn.Module):
        network = inner
    encoder = getattr(network, "encoder", None)
    return encoder if isinstance(encoder, torch.nn.Module) else None


def encoder_parameters(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Trainable parameters of the encoder; none when the network has no encoder."""
    encoder = encoder_of(network)
    return [] if encoder is None else [parameter for parameter in encoder.parameters() if parameter.requires_grad]


def parameter_groups(network: torch.nn.Module, learning_rate: float, head_multiplier: float) -> list[dict[str, Any]]:
    """Groups for an optimizer: the encoder first, at ``learning_rate``; the rest at ``head_multiplier`` times that.

    A network without encoder is one group at ``learning_rate``.
    """
    encoder = encoder_parameters(network)
    # By identity: comparing tensors compares their values.
    inside = {id(parameter) for parameter in encoder}
    rest = [parameter for parameter in network.parameters() if parameter.requires_grad and id(parameter) not in inside]
    if not encoder:
        return [{"params": rest, "lr": learning_rate}]
    return [{"params": encoder, "lr": learning_rate}, {"params": rest, "lr": learning_rate * head_multiplier}]


def natural_network(
    architecture: str, encoder: str, in_channels: int, num_classes: int, encoder_weights: str | None = None
) -> PaddedNetwork:
    """A two-dimensional network with an image encoder; needs the extra ``natural``.

    Args:
        architecture: a key of `ARCHITECTURES`.
        encoder: a key of `ENCODERS`, or "tu-" and the name of a timm model.
        in_channels: channels of the images.
        num_classes: channels of the output, logits at the input's size, whatever that is.
        encoder_weights: None (random); "imagenet" (the hub's cache, else the network); or the path of a .safetensors
            or PyTorch file. Weights for three channels are summed for one, and repeated for others.
    Raises:
        ImportError: the extra is not installed, or its torchvision does not fit torch.
        FileNotFoundError: no such file of weights; or neither in the cache nor within reach.
        DatasetError: the weights are not those of the encoder.
        ValueError: unknown architecture or encoder.
    """
    require_one_of("natural_network", "architecture", architecture, ARCHITECTURES)
    library = _import_library()
    known = _library_name(encoder, library)
    # Without weights (None): the library would reach for its own.
    network = library.create_model(architecture, known, None, in_channels, num_classes, **ARCHITECTURES[architecture])
    if encoder_weights is not None:
        path = _hub_file(known, library) if encoder_weights == "imagenet" else Path(encoder_weights)
        load_encoder(network.encoder, path, in_channels)
    return PaddedNetwork(network, network.encoder.output_stride)


def _import_library() -> Any:
    try:
        import segmentation_models_pytorch
    except ModuleNotFoundError as error:
        advice = "Run pip install 'rankseg-rma[natural]'."
        raise ImportError(wrong("natural_network", "extra", "installed", str(error), advice=advice)) from error
    except RuntimeError as error:  # torchvision of another build than torch
        advice = "Install the torchvision that belongs to your torch, from the same index."
        got = " ".join(str(error).split())[:150]
        raise ImportError(wrong("natural_network", "torchvision", "importable", got, advice=advice)) from error
    return segmentation_models_pytorch


def _library_name(encoder: str, library: Any) -> str:
    import timm

    name = ENCODERS.get(encoder, encoder)
    if name in library.encoders.encoders or (name.startswith("tu-") and timm.is_model(name.removeprefix("tu-"))):
        return name
    close = difflib.get_close_matches(encoder, ENCODERS, n=1)
    advice = f"Did you mean {close[0]!r}?" if close else ""
    expected = "one of " + ", ".join(ENCODERS) + ", or 'tu-' and the name of a timm model"
    raise ValueError(wrong("natural_network", "encoder", expected, repr(encoder), advice=advice))


def _hub_file(encoder: str, library: Any) -> Path:
    """The encoder's ImageNet weights: from the hub's cache, which works without network, else from the hub."""
    import timm
    from huggingface_hub import constants, hf_hub_download

    if encoder.startswith("tu-"):
        facts = timm.models.get_pretrained_cfg(encoder.removeprefix("tu-"))
        repository, revision = getattr(facts, "hf_hub_id", None), None
    else:
        settings = library.encoders.encoders[encoder]["pretrained_settings"].get("imagenet", {})
        repository, revision = settings.get("repo_id"), settings.get("revision")
    if repository is None:
        raise ValueError(wrong("natural_network", "encoder_weights", "null or a file", f"'imagenet' for {encoder}"))
    reason = ""
    # The cache first: asking the hub without a network waits for its time-outs.
    for only_cache in (True, False):
        try:
            return Path(
                hf_hub_download(repository, "model.safetensors", revision=revision, local_files_only=only_cache)
            )
        except Exception as error:  # each way of being without network has its own kind
            reason = type(error).__name__
    folder = "models--" + repository.replace("/", "--")
    advice = (
        f"Fetch model.safetensors of https://huggingface.co/{repository} where there is a network, and give its path "
        f"as encoder_weights; or copy the folder {folder} of that machine's hub cache into {constants.HF_HUB_CACHE}."
    )
    got = f"not there ({reason})"
    raise FileNotFoundError(
        wrong("natural_network", "'imagenet' weights", "in the cache or within reach", got, advice=advice)
    )


def load_encoder(encoder: torch.nn.Module, path: Path, in_channels: int) -> None:
    """Load a file of weights into an encoder; classifier heads and decoders in it are left out.

    Raises:
        FileNotFoundError: no such file.
        DatasetError: unreadable, or tensors are missing, unknown or of other shapes; the message names some.
    """
    import timm

    if not path.is_file():
        expected = "null, 'imagenet' or the path of a .safetensors, .pt or .pth file"
        raise FileNotFoundError(wrong("natural_network", "encoder_weights", expected, str(path)))

    def adapt(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        if tensor.ndim == 4 and tensor.shape[1] == 3 != in_channels == shape[1]:
            return timm.models.adapt_input_conv(in_channels, tensor)
        return tensor

    own = encoder.state_dict()
    content = read_weights(path, function="natural_network", argument="encoder_weights")
    fit = fit_weights(content, own, select=_encoder_part, plain=_plain, adapt=adapt)
    expected = "those of the encoder"
    fit = require_fit(fit, function="natural_network", argument="encoder_weights", expected=expected, path=path)
    encoder.load_state_dict(own | fit.tensors)


def _encoder_part(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of the encoder: of a whole network only its encoder, without classifier head."""
    inside = {key.split("encoder.", 1)[1]: tensor for key, tensor in state.items() if "encoder." in key}
    named = inside or state
    return {key: tensor for key, tensor in named.items() if not unwrapped(key).startswith(_CLASSIFIER_HEADS)}


def _plain(key: str) -> str:
    """Name without dots: timm's feature extractors call stages_0 what its classifiers call stages.0."""
    return key.replace(".", "_")
