"""Write scikit-learn's digits as shards to a folder or an object store: `shards.py s3://...`.

A shard is a file of records of equal length, so a reader can start at any record.
"""

import sys

import fsspec
import numpy as np
from sklearn.datasets import load_digits

SHARDS = 4


def main(url):
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    records = np.column_stack([digits.data, digits.target]).astype(np.uint8)[order]
    fs, root = fsspec.core.url_to_fs(url)
    fs.makedirs(root, exist_ok=True)
    for number, shard in enumerate(np.array_split(records, SHARDS)):
        with fs.open(f"{root}/{number}.bin", "wb") as file:
            file.write(shard.tobytes())
        print(f"wrote {len(shard)} records to {url}/{number}.bin")


if __name__ == "__main__":
    main(sys.argv[1])
