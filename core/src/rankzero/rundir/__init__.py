"""The directory of a run: its files, delivery positions, the writer's lock, finding runs."""
