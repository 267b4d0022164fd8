"""What the edge runtime does while everything around it breaks."""
