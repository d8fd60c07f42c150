"""Files: atomic writes, safe paths, local and remote directories."""
