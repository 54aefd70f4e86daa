"""What all processes do together: gather, reduce, broadcast, pad."""
