"""The importers of core: files that many tools write."""
