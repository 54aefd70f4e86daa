"""The fault-tolerant loop: resume, automatic checkpoints, and stops without a lost step."""
