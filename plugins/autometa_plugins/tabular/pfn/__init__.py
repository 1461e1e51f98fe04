"""A network that is pretrained on synthetic tables and starts at the kernel experts' mixture."""
