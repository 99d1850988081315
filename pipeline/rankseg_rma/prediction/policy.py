"""How probabilities become masks, and which temperature they get."""

from collections.abc import Sequence
from dataclasses import dataclass

from rankseg_rma.checks import require_number
from rankseg_rma.decoder import RMADecoder


@dataclass(frozen=True)
class DecodeOptions:
    """How probabilities become masks; see `RMADecoder`. ``temperature`` None means 1."""

    metric: str = "dice"
    unit: str = "volume"
    slice_axis: str | int = "axial"
    pruning_prob: float = 0.5
    unassigned: str = "max_score"
    temperature: float | None = None


def arms_of(
    decoders: Sequence[str], options: DecodeOptions, slice_axis: int, *, multilabel: bool = False
) -> dict[str, RMADecoder | None]:
    """What `decode_arms` is asked for, in the order of argmax and RMA.

    Args:
        decoders: some of "argmax" and "rma".
        options: metric, unit and rules; their temperature is not looked at.
        slice_axis: spatial axis of the slices, for unit="slice".
        multilabel: the classes of the probabilities may overlap.
    """
    arms: dict[str, RMADecoder | None] = {"argmax": None} if "argmax" in decoders else {}
    if "rma" in decoders:
        arms["rma"] = RMADecoder(
            metric=options.metric, unit=options.unit, slice_axis=slice_axis, pruning_prob=options.pruning_prob,
            unassigned=options.unassigned, multilabel=multilabel,
        )  # fmt: skip
    return arms


def choose_temperature(given: str | None, stored: float | None) -> tuple[float | None, str]:
    """Temperature and where it comes from.

    Args:
        given: what the user said: "none", a number, the path of a temperature file, or None for the stored one.
        stored: the temperature stored beside model or probabilities, if any.
    Returns:
        (temperature or None, "stored" | "given" | "none").
    """
    if given is None:
        return stored, "none" if stored is None else "stored"
    if given.lower() == "none":
        return None, "none"
    try:
        number = float(given)
    except ValueError:
        from rankseg_rma.files.temperature import read_temperature

        return read_temperature(given), "given"
    from rankseg_rma.decoder.temperature import TEMPERATURE_RANGE

    return require_number("infer", "temperature", number, *TEMPERATURE_RANGE), "given"


def tell_temperature(decoders: tuple[str, ...], temperature: float | None, source: str) -> list[str]:
    if "rma" not in decoders:
        return []
    if temperature is not None:
        return [f"RMA decodes at temperature {temperature:.3f} ({source})"]
    return [
        "warning: no temperature is used, so RMA takes the probabilities as they are. Training fits one on "
        "validation cases; --temperature gives one."
    ]
