"""How much of the time a training with faults is kept, here and with other libraries."""
