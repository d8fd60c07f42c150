"""Snapshots of files, as a run keeps them."""

from rankzero.media.store import MediaStore
from rankzero.run.snapshots import Snapshots


def snapshot(source, run_dir):
    """Copy ``source`` into ``run_dir``, and return the path, relative."""
    kept = []
    Snapshots(MediaStore(run_dir)).take(source, kept.append, at_once=True)
    return kept[0]
