"""What every command shares: outcome, progress, worker processes, the record of a run."""
