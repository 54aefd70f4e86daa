"""What a script may have changed, or left out, that would make its resumed training another one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.loop.say import say
from runtime.preparation.prepared import Prepared


@contextmanager
def changed_scripts_told(folder: Path) -> Iterator[None]:
    """Tell in the traceback of an error what a checkpoint that does not fit may be.

    Args:
        folder: the checkpoint that is loaded.
    """
    try:
        yield
    except Exception as error:
        error.add_note(
            f"The automatic checkpoint {folder} cannot be loaded: if the script has changed, or it "
            "is of another training, set ACCELERATEDJOB_CHECKPOINT_DIR to another directory"
        )
        raise


def tell_schedulers_that_begin_anew(prepared: Prepared, *, has_registered: bool) -> None:
    """Say it if a learning rate scheduler was not prepared: no checkpoint has its state.

    Args:
        prepared: the objects that the script has prepared.
        has_registered: whether the script has registered objects, which may be schedulers.
    """
    scheduled = sum("initial_lr" in one.param_groups[0] for one in prepared.optimizers)
    if scheduled > len(prepared.schedulers) and not has_registered:
        say(
            "a learning rate scheduler begins anew when the training resumes, because checkpoints "
            "do not have its state: pass it to prepare() or register_for_checkpointing()"
        )
