"""Puts configs/ and datasets/ into the package of a standard wheel (an editable install reads the originals)."""

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShipConfigsAndCards(BuildHookInterface):
    def initialize(self, version, build_data):
        if version == "standard":
            build_data["force_include"] |= {kind: f"rankseg_rma/{kind}" for kind in ("configs", "datasets")}
