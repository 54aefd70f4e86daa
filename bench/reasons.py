"""Why a goal is not reached: written by hand, shown on the page where a line's goal is missed."""

REASONS = {  # a case's name -> one or two sentences
    "epoch-keyed": "A rank of so large a world has 19,531 indices: eight rounds are some 90 calls "
    "of torch for them, and again for the first batches, which are made sooner. A compiled loop "
    "would reach it.",
    "fetch": "Selecting is less than half of it; the rest is torch's iterator, the loader's "
    "look-ahead of one batch, and the move to a device where the batch is already.",
    "resume-stream-read": "Who may only go through a stream has to: every rank passes by what is "
    "not its own. A dataset with `iter_from` or a `state_dict` is not gone through.",
    "gather": "The floor, one collective of as many bytes, is not much faster: four processes take "
    "turns on two cores.",
    "local-sgd": "The floor, one collective of as many bytes, misses the goal as well on this "
    "machine.",
    "step": "Seven calls of wrappers a step, of about 4 µs each in a loop that leaves their code "
    "no room in the caches.",
    "step-local-rank": "As in a step without it: no DistributedDataParallel is in it.",
    "scheduler-cosine": "A leap, and the step of torch's that ends it, are two steps' work and the "
    "call of the wrapper.",
    "checkpoint-load-time": "States are copied once, out of the mapped file into memory. To leave "
    "them mapped loads at once, costs more at the first step, and needs the file to stay.",
    "checkpoint-load-memory": "Pages of the mapped file count as well, which the system can drop.",
}
