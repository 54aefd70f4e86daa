"""What the fault-tolerant loop costs."""
