"""What samplers, learners, meta-optimizers and backbones are; the floor everything else stands on."""
