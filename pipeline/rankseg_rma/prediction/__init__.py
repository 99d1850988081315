"""From images to probabilities, and from probabilities to masks on disk."""
