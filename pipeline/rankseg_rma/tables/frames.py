"""What a report is made of: the tables of an evaluation, as pandas frames."""

from dataclasses import dataclass, field

import pandas


def _empty() -> pandas.DataFrame:
    return pandas.DataFrame()


@dataclass(frozen=True)
class Tables:
    """The tables that `evaluate` writes, under the names of their files; an empty frame where one was not made.

    `docs/columns.md` says what each column holds.

    Attributes:
        first: decoder that the others are compared with.
        second: the decoder compared with it; equal to ``first`` when there is only one.
        metric: score that the page is about, for example "dice".
    """

    first: str
    second: str
    metric: str
    scores: pandas.DataFrame
    paired: pandas.DataFrame = field(default_factory=_empty)
    strata: pandas.DataFrame = field(default_factory=_empty)
    empty_references: pandas.DataFrame = field(default_factory=_empty)
    volumes: pandas.DataFrame = field(default_factory=_empty)
    agreement: pandas.DataFrame = field(default_factory=_empty)
    lesions: pandas.DataFrame = field(default_factory=_empty)
    detection: pandas.DataFrame = field(default_factory=_empty)
    slices: pandas.DataFrame = field(default_factory=_empty)
    calibration: pandas.DataFrame = field(default_factory=_empty)
    reliability: pandas.DataFrame = field(default_factory=_empty)
    expected: pandas.DataFrame = field(default_factory=_empty)
    quality: pandas.DataFrame = field(default_factory=_empty)
    summary: pandas.DataFrame = field(default_factory=_empty)
    burden: pandas.DataFrame = field(default_factory=_empty)
    recist: pandas.DataFrame = field(default_factory=_empty)

    @property
    def is_pair(self) -> bool:
        """Whether there are two decoders to compare."""
        return self.first != self.second
