"""The tables that the commands write: their columns, and how they are stored."""
