"""What every training shares: the folder of a run, its checkpoints, and the learning rate."""
