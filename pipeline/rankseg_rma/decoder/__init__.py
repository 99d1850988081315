"""The decoder: arrays in, arrays out. No MONAI, no files."""

from rankseg_rma.decoder.functional import expected_score, rankseg_rma
from rankseg_rma.decoder.solver import Decoding, RMADecoder

__all__ = ["Decoding", "RMADecoder", "expected_score", "rankseg_rma"]
