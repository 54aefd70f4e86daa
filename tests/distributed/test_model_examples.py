"""The examples with models of other libraries train, at a small size, by their manifests."""

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.distributed.test_examples import behind_an_abort
from tests.distributed.world import ROOT, SCRIPT
from tests.runtime.object_store import s3_server

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.xdist_group("gloo"),
]

EXAMPLES = ROOT / "examples"
SMALL = {  # manifest -> (arguments for a small size, what is written of the epoch, its bounds)
    "gpt2/job.yaml": (
        ["--epochs=1", "--blocks=160", "--length=32"],
        (r"\[0\] epoch 1: perplexity (\S+)", 5, 120),  # 256 without any training
    ),
    "gpt2/sharded.yaml": (
        ["--epochs=1", "--blocks=160", "--length=32", "--output=saved"],
        (r"\[0\] epoch 1: perplexity (\S+)", 5, 120),
    ),
    "images/job.yaml": (
        ["--epochs=1", "--images=64", "--workers=0"],
        (r"\[0\] epoch 1: accuracy (\S+)", 0, 1),
    ),
    "objectstore/job.yaml": (
        ["--data=shards", "--epochs=2"],
        (r"\[0\] epoch 2: loss (\S+)", 0, 0.6),  # 2.3 without any training
    ),
}


def small(name: str, folder: Path) -> Path:
    """A copy of the example's folder, whose manifest has further arguments and no object store."""
    example = EXAMPLES / name
    shutil.copytree(example.parent, folder / example.parent.name)
    manifest = yaml.safe_load(example.read_text())
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    container["command"] = [*container["command"][:4], *SMALL[name][0]]
    manifest["spec"].pop("checkpoint", None)
    made = folder / name
    made.write_text(yaml.safe_dump(manifest))
    return made


def run(*command: str, folder: Path, **variables: str) -> str:
    """What a command writes."""
    done = subprocess.run(
        command,
        env=os.environ | SCRIPT | {"HF_HUB_OFFLINE": "1"} | variables,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("name", SMALL)
def test_an_example_trains_by_its_manifest(name: str, tmp_path: Path) -> None:
    pattern, least, most = SMALL[name][1]
    manifest = small(name, tmp_path)
    if name.startswith("objectstore"):
        run(sys.executable, "shards.py", "shards", folder=manifest.parent)
    output = run(sys.executable, "-m", "acceleratedjob", "run", str(manifest), folder=tmp_path)
    if name == "gpt2/sharded.yaml":
        output = "\n".join(behind_an_abort(output.splitlines()))
    (found,) = re.findall(f"^{pattern}$", output, re.MULTILINE)
    assert least <= float(found) <= most
    assert math.isfinite(float(found))
    if "--output=saved" in SMALL[name][0]:
        assert is_loaded_by_transformers(manifest.parent / "saved")


def is_loaded_by_transformers(folder: Path) -> bool:
    """Whether Transformers loads all weights of a model, and gives the vocabulary's size of it."""
    script = (
        "import sys; from transformers import GPT2LMHeadModel as Model\n"
        "model, told = Model.from_pretrained(sys.argv[1], output_loading_info=True)\n"
        "print(model.config.vocab_size, [*told['missing_keys'], *told['unexpected_keys']])"
    )
    return run(sys.executable, "-c", script, str(folder), folder=folder).endswith("256 []\n")


IN_A_BUCKET = """
import os, runpy, sys
from obstore.fsspec import register
register("s3")
folder, url = sys.argv[1:]
runpy.run_path(f"{folder}/shards.py")["main"](url)
stream = runpy.run_path(f"{folder}/train.py")["Shards"](url)
read = lambda samples: [(image.tolist(), int(label)) for image, label in samples]
whole = read(stream)
assert len(whole) == len(stream) == 1797, len(whole)
for start in (1, 450, 899, 1796, 1797):
    assert read(stream.iter_from(start)) == whole[start:], start
print("done")
"""


def test_the_stream_of_an_object_store_is_read_from_any_sample(tmp_path: Path) -> None:
    """A resume relies on it: `iter_from` yields what follows, within a shard and across shards."""
    with s3_server(tmp_path) as options:
        reached = {
            "AWS_ENDPOINT": options["config"]["endpoint"],
            "AWS_ACCESS_KEY_ID": options["config"]["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": options["config"]["secret_access_key"],
            "AWS_REGION": options["config"]["region"],
            "AWS_ALLOW_HTTP": "true",
        }
        place = [str(EXAMPLES / "objectstore"), "s3://training/digits"]
        output = run(sys.executable, "-c", IN_A_BUCKET, *place, folder=tmp_path, **reached)
    assert output.endswith("done\n")
