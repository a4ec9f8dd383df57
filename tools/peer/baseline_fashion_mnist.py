"""The recipe recipes/quickstart.toml in plain PyTorch, for comparison:

    build/peer/bin/python tools/peer/baseline_fashion_mnist.py /usr/share/datasets/fashion-mnist
"""

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch

import fast_at
from models import CnnSmall

EPS, ALPHA = 0.1, 0.125


def read_idx(folder, name):
    """The array of an IDX file of bytes, plain or with .gz."""
    path = Path(folder) / name
    data = path.read_bytes() if path.exists() else gzip.decompress(
        Path(f"{path}.gz").read_bytes())
    sizes = np.frombuffer(data, ">u4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes)


def load(folder, split):
    images = torch.from_numpy(read_idx(folder, f"{split}-images-idx3-ubyte").copy())
    labels = torch.from_numpy(read_idx(folder, f"{split}-labels-idx1-ubyte").astype(np.int64))
    return images[:, None].float() / 255, labels


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    images, labels = load(options.folder, "train")
    model = CnnSmall(mean=[images.mean().item()], std=[images.std().item()])
    seconds = fast_at.train(model, images, labels, epochs=options.epochs, peak_rate=0.1, eps=EPS,
                            alpha=ALPHA, augment=False)
    images, labels = load(options.folder, "t10k")
    fast_at.report(model, seconds, images[:1000], labels[:1000], EPS)


if __name__ == "__main__":
    main()
