"""TRADES as its official code has it (train_trades_mnist.py, trades.py), in plain PyTorch, beside a run of Ringfort:
the same weights to begin with, the same images in every step, step by step.

    build/peer/bin/python tools/peer/trades.py images FOLDER    # writes 128 images of Fashion-MNIST as a data set
    R="recipes/fashion-mnist-trades.toml --data-dir FOLDER --hold-out 0 --probe-every 0 --attack-steps 10 --epochs 100 \\
       --sched constant --lr 0.01 --log-every 1 --threads 1"
    build/ringfort train $R --max-steps 1 --output START        # its weights are what both begin with
    build/ringfort train $R --init START/last.safetensors --output RUN
    build/peer/bin/python tools/peer/trades.py compare FOLDER START/last.safetensors RUN

A data set of one batch leaves nothing to the order of images. What differs is the noise that the attack starts from.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tomllib

import baseline_fashion_mnist
import models

COUNT = 128


def write_idx(path, array):
    sizes = np.array(array.shape, ">u4").tobytes()
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes())


def write_images(folder, source):
    folder.mkdir(parents=True)
    for split in ("train", "t10k"):
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
            array = baseline_fashion_mnist.read_idx(source, f"{split}-{kind}")
            write_idx(folder / f"{split}-{kind}", array[:COUNT])


def trades_loss(model, x, y, eps, step_size, steps, beta):
    """The loss of trades.py: cross-entropy of x + beta / N times the summed KL divergence."""
    kl = lambda log_q, p: F.kl_div(log_q, p, reduction="sum")
    model.eval()
    x_adv = x + 0.001 * torch.randn_like(x)
    for _ in range(steps):
        x_adv.requires_grad_()
        loss = kl(F.log_softmax(model(x_adv), 1), F.softmax(model(x), 1))
        gradient, = torch.autograd.grad(loss, x_adv)
        x_adv = x_adv.detach() + step_size * gradient.sign()
        x_adv = torch.min(torch.max(x_adv, x - eps), x + eps).clamp(0, 1)
    model.train()
    logits = model(x)
    robust = kl(F.log_softmax(model(x_adv), 1), F.softmax(model(x), 1)) / len(x)
    return F.cross_entropy(logits, y) + beta * robust


def compare(folder, start, run):
    recipe = {key: value for section in tomllib.loads((run / "recipe.toml").read_text()).values()
              for key, value in section.items()}
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    ours = [record["loss"] for record in records if record["kind"] == "step"]
    number = lambda key: float(np.prod([float(x) ** (-1) ** i for i, x in
                                        enumerate(str(recipe[key]).split("/"))]))
    images, labels = baseline_fashion_mnist.load(folder, "train")
    model = models.load_checkpoint(start)
    optimizer = torch.optim.SGD(model.parameters(), lr=number("lr"), momentum=number("momentum"),
                                weight_decay=number("weight-decay"))
    print("step  PyTorch  Ringfort")
    for step, our_loss in enumerate(ours, 1):
        optimizer.zero_grad()
        loss = trades_loss(model, images, labels, number("eps"), number("attack-alpha"),
                           recipe["attack-steps"], number("beta"))
        loss.backward()
        optimizer.step()
        if step in (1, 2, 3) or step % 10 == 0:
            print(f"{step:4d} {loss.item():8.4f} {our_loss:9.4f}")


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    images = commands.add_parser("images")
    images.add_argument("folder", type=Path)
    images.add_argument("--source", default="/usr/share/datasets/fashion-mnist")
    command = commands.add_parser("compare")
    for name in ("folder", "start", "run"):
        command.add_argument(name, type=Path)
    command.add_argument("--seed", type=int, default=0, help="of PyTorch's noise")
    options = parser.parse_args()
    torch.manual_seed(getattr(options, "seed", 0))
    torch.set_num_threads(1)
    if options.command == "images":
        write_images(options.folder, options.source)
    else:
        compare(options.folder, options.start, options.run)


if __name__ == "__main__":
    main()
