"""Colours of masks, safe for colour-blind readers."""

# Okabe and Ito's palette.
COLOURS = {"reference": "#009E73", "argmax": "#E69F00", "rma": "#56B4E9"}
