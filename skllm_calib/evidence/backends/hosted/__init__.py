"""What the backends of hosted providers share."""
