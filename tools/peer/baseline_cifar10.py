"""The recipe recipes/cifar10-fast.toml in plain PyTorch, for comparison:

    build/peer/bin/python tools/peer/baseline_cifar10.py FOLDER/cifar-10-batches-bin
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import fast_at
from models import PreActResNet18

EPS, ALPHA = 8 / 255, 10 / 255


def load(folder, names):
    """Images (N, 3, 32, 32) in [0, 1] and labels of CIFAR-10's binary files."""
    records = np.concatenate([np.fromfile(Path(folder) / name, np.uint8).reshape(-1, 3073)
                              for name in names])
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32)).float() / 255
    return images, torch.from_numpy(records[:, 0].astype(np.int64))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    images, labels = load(options.folder, [f"data_batch_{i}.bin" for i in range(1, 6)])
    model = PreActResNet18(options.width, mean=images.mean((0, 2, 3)).tolist(),
                           std=images.std((0, 2, 3)).tolist())
    seconds = fast_at.train(model, images, labels, epochs=options.epochs, peak_rate=0.2, eps=EPS,
                            alpha=ALPHA, augment=True)
    images, labels = load(options.folder, ["test_batch.bin"])
    fast_at.report(model, seconds, images[:1000], labels[:1000], EPS)


if __name__ == "__main__":
    main()
