"""What is on disk: volumes, photographs, probabilities, temperatures."""
