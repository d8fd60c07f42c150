"""The commands of ``rankzero``, one file each. What is slow to import is imported when a command runs."""
