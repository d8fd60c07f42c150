"""The recorder: log metrics from your own training loop, as ``self.log`` does in Lightning."""
