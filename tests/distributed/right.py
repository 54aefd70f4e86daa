"""Where Accelerate 1.15 is wrong: what it gives, and what is right, of the same program.

docs/migration.md shows the same table. A row whose `wrong` is no longer what Accelerate gives has
nothing to claim any more, and goes.
"""

from tests.distributed.lives import Life, Row
from tests.distributed.programs import Numbers, Stream, left_early
from tests.distributed.right_programs import (
    container,
    counted,
    drawn,
    epoch_after_skipping,
    interrupted,
    joined,
    kept,
    last_window,
    lengths,
    load,
    load_and_save,
    resumed,
    save,
    used,
    whole,
    with_names,
    world,
)

NO_LOCAL_RANK = ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "ACCELERATE_USE_CPU")
SEEDED = {"shuffle": True, "seed_by_rank": True}  # each rank otherwise
ROWS = (
    Row(
        case="torchrun on a machine without a GPU, and no `cpu=True`",
        accelerate="each process trains alone, as the main one",
        here="one distributed training",
        lives=(Life(program=world, without=("ACCELERATE_USE_CPU",)),),
        wrong=[[1, 0, 1], [1, 0, 1]],
        right=[[2, 0, 2], [2, 1, 2]],
    ),
    Row(
        case="`RANK` and `WORLD_SIZE` without `LOCAL_RANK`",
        accelerate="each process trains alone, as the main one",
        here="one distributed training",
        lives=(Life(program=world, without=NO_LOCAL_RANK),),
        wrong=[[1, 0, 1], [1, 0, 1]],
        right=[[2, 0, 2], [2, 1, 2]],
    ),
    Row(
        case="a world of one process with `LOCAL_RANK`",
        accelerate="the model is wrapped in DistributedDataParallel",
        here="the model stays as it is",
        lives=(Life(program=container, size=1),),
        wrong=["DistributedDataParallel"],
        right=["Linear"],
    ),
    Row(
        case="a seedable sampler, and processes that were seeded differently",
        accelerate="samples are used twice, others never",
        here="the seed is agreed on",
        lives=(
            Life(
                program=used, options=SEEDED | {"data": Numbers(16), "use_seedable_sampler": True}
            ),
        ),
        wrong=[[12, 16]] * 2,
        right=[[16, 16]] * 2,
    ),
    Row(
        case="an iterable dataset with two workers",
        accelerate="each sample is used twice",
        here="each once: workers share it",
        lives=(Life(program=used, options={"data": Stream(16), "workers": 2}),),
        wrong=[[16, 32]] * 2,
        right=[[16, 16]] * 2,
    ),
    Row(
        case="`use_stateful_dataloader`, two workers, and processes that were seeded differently",
        accelerate="samples are used twice, others never",
        here="the order is agreed on",
        lives=(
            Life(
                program=used,
                options=SEEDED
                | {"data": Numbers(96), "workers": 2, "use_stateful_dataloader": True},
            ),
        ),
        wrong=[[75, 96]] * 2,
        right=[[96, 96]] * 2,
    ),
    Row(
        case="a shard of an iterable dataset with a generator, before `set_epoch`",
        accelerate="AttributeError",
        here="epoch 0",
        lives=(Life(program=drawn, size=1),),
        wrong=["AttributeError"],
        right=[4],
    ),
    Row(
        case="`gather_for_metrics`, a sampler of 30 of 100 samples",
        accelerate="counts 20",
        here="counts 30",
        lives=(Life(program=counted, options={"data": Numbers(100), "subset": 30, "batch": 8}),),
        wrong=[20] * 2,
        right=[30] * 2,
    ),
    Row(
        case="`gather_for_metrics`, an iterable dataset of 37 that each process reads",
        accelerate="counts 40",
        here="counts 37",
        lives=(Life(program=counted, options={"data": Stream(37), "dispatch_batches": False}),),
        wrong=[40] * 2,
        right=[37] * 2,
    ),
    Row(
        case="`gather_for_metrics` behind `skip_first_batches`, 13 of 37 left",
        accelerate="counts 16",
        here="counts 13",
        lives=(Life(program=counted, options={"data": Numbers(37), "skip": 3}),),
        wrong=[16] * 2,
        right=[13] * 2,
    ),
    Row(
        case="`gather_for_metrics` of a dict that has a list in it",
        accelerate="values are lost, keys returned",
        here="the dict",
        lives=(Life(program=with_names),),
        wrong=[["x", "names", "x", "names"]] * 2,
        right=[{"x": [0, 1, 2, 3], "names": ["s0", "s1", "s2", "s3"]}] * 2,
    ),
    Row(
        case="`len()` with `split_batches` and without `even_batches`",
        accelerate="counts a batch that the last process does not get",
        here="the batches that come",
        lives=(Life(program=lengths),),
        wrong=[[4, 4], [4, 3]],
        right=[[4, 4], [3, 3]],
    ),
    Row(
        case="`skip_first_batches`: `drop_last` and `non_blocking`",
        accelerate="are lost",
        here="are kept",
        lives=(Life(program=kept),),
        wrong=[[False, False]] * 2,
        right=[[True, True]] * 2,
    ),
    Row(
        case="the epoch that follows on one resumed by `skip_first_batches`",
        accelerate="has the same order again",
        here="has its own order",
        lives=(Life(program=epoch_after_skipping),),
        wrong=[1] * 2,
        right=[2] * 2,
    ),
    Row(
        case="`break` in an inner loop, over an evaluation's data",
        accelerate="the end of the outer loop is never seen, its last window never stepped",
        here="seen",
        lives=(Life(program=left_early),),
        wrong=[[False, False]] * 2,
        right=[[False, True]] * 2,
    ),
    Row(
        case="accumulation over 4 batches, of 6",
        accelerate="the last gradient is halved",
        here="the mean; as there with `mean_of_last_window=False`",
        lives=(Life(program=last_window, size=1),),
        wrong=[[-1.0, -1.5]],
        right=[[-1.0, -2.0]],
    ),
    Row(
        case="`join_uneven_inputs` on CPUs",
        accelerate="does nothing: the process with more batches fails",
        here="joins",
        lives=(Life(program=joined),),
        wrong=["RuntimeError", 2],
        right=[3, 2],
    ),
    Row(
        case="a checkpoint in the middle of an epoch",
        accelerate="begins the epoch again",
        here="goes on with the next batch",
        lives=(Life(program=interrupted), Life(program=resumed)),
        wrong=[[3, False]] * 2,
        right=[[3, True]] * 2,
    ),
    Row(
        case="the same with workers, in a later epoch",
        accelerate="begins the first epoch again",
        here="goes on with the next batch",
        lives=(
            Life(program=interrupted, options={"workers": 2, "epoch": 1}),
            Life(program=resumed, options={"workers": 2}),
        ),
        wrong=[[3, False]] * 2,
        right=[[3, True]] * 2,
    ),
    Row(
        case="a checkpoint of 2 processes, loaded by 4",
        accelerate="new processes begin another accumulation; the epoch begins again",
        here="all go on with the next batch",
        lives=(Life(program=interrupted), Life(program=resumed, size=4, options={"batch": 1})),
        wrong=[[3, False], [3, False], [0, False], [0, False]],
        right=[[3, True]] * 4,
    ),
    Row(
        case="a restarted job's next checkpoint, with automatic naming",
        accelerate="ValueError: checkpoint_0 is there already",
        here="checkpoint_1",
        lives=(
            Life(program=save, size=1, options={"times": 1}),
            Life(program=load_and_save, size=1),
        ),
        wrong=["ValueError"],
        right=[["checkpoint_0", "checkpoint_1"]],
    ),
    Row(
        case="death in the middle of a save",
        accelerate="half a checkpoint is taken for the newest, and does not load",
        here="the last whole one is loaded",
        lives=(
            Life(program=save, size=1, options={"times": 2}),
            Life(program=load, size=1),
        ),
        wrong=["RuntimeError"],
        right=[1],
    ),
    Row(
        case="the same with `total_limit=1`",
        accelerate="the last whole one is gone already",
        here="it is loaded: it goes when the new one is there",
        lives=(
            Life(program=save, size=1, options={"times": 2, "limit": 1}),
            Life(program=whole, size=1, options={"limit": 1}),
        ),
        wrong=[[]],
        right=[["checkpoint_0"]],
    ),
)
