"""Why a goal is missed: written by hand, and shown on the page next to the missed goal."""

REASONS = {  # name of the case -> one or two sentences
    "epoch-keyed": (
        "A rank in such a large world has 19,531 indices. Eight rounds are about 90 calls of "
        "torch for them, and again for the first batches, which are computed earlier. A "
        "compiled loop would reach the goal."
    ),
    "fetch": (
        "Indexing the tensors takes less than half of the time. The rest is torch's iterator,"
        " the loader's look-ahead of one batch, and the move to a device on which the batch "
        "already is."
    ),
    "resume-stream-read": (
        "A stream that can only be iterated must be read: every rank skips the samples of the"
        " others. A dataset with `iter_from` or a `state_dict` is not read."
    ),
    "gather": (
        "The floor, one collective of the same number of bytes, is not much faster: four "
        "processes share two cores."
    ),
    "local-sgd": (
        "The floor, one collective of the same number of bytes, also misses the goal on this "
        "machine."
    ),
    "step": (
        "A step calls seven wrappers. Each takes about 4 µs in a loop whose own code fills "
        "the caches."
    ),
    "step-local-rank": (
        "As in a step without LOCAL_RANK: the model is not wrapped in DistributedDataParallel."
    ),
    "scheduler-cosine": (
        "A jump to the last step and the following step of torch's scheduler cost as much as "
        "two steps, plus the call of the wrapper."
    ),
    "gpu-save-call": (
        "The state has 592 tensors, each of which is looked up, given its pinned memory and put "
        "into the copy of the state by the interpreter; the GPU works meanwhile."
    ),
    "gpu-save-steps": "The call, as above; why steps lose 2 ms more was not looked for.",
    "gpu-gpt2": (
        "The outputs of a model in bf16 are converted to fp32, as in Accelerate: here the logits, "
        "1.6 GB more to write."
    ),
    "checkpoint-load-time": (
        "The states are copied once, from the mapped file to memory. Keeping them mapped "
        "would load at once, but the first step would take longer, and the file would have to"
        " stay."
    ),
    "checkpoint-load-memory": (
        "The measurement includes pages of the mapped file, which the kernel can drop."
    ),
}
