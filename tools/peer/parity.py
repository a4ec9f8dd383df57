"""Compares Ringfort's logits and input gradients with PyTorch's from the same weights.

Run by `ringfort-bench parity` and `weights`: each question is "WEIGHTS NAMING OURS BN", with weights
as `ringfort export` writes them, x, logits and dx of Ringfort in the file OURS and BN eval or train;
the reference is PyTorch in float64.
`parity.py --vectors FOLDER` writes the small vectors that tests/parity_test.cpp reads,
`parity.py --state-dicts FILE` the names, types and shapes that tests/weights_test.cpp reads.
"""

import copy
import json
import sys
from pathlib import Path
from unittest import mock

import serve
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import models


def logits_and_gradient(model, x, labels, train):
    """x: (N, C, H, W). The gradient is of the summed loss; running statistics are left alone."""
    model = copy.deepcopy(model).train(train)
    x = x.detach().requires_grad_()
    logits = model(x)
    gradient, = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), x)
    return logits.detach(), gradient


def errors(logits, gradient, reference):
    """Largest absolute error of a logit; median and largest relative error of an image's gradient.

    A rounding that turns the sign of one value before a ReLU is an error of the gradient of that
    image that no precision bounds: the median is what rounding does, the largest shows such images,
    and nearest_piece() whether that is all.
    """
    wanted_logits, wanted_gradient = reference
    relative = (gradient.double() - wanted_gradient).flatten(1).norm(dim=1)
    relative /= wanted_gradient.flatten(1).norm(dim=1)
    return {"logits": (logits.double() - wanted_logits).abs().max().item(),
            "gradient": relative.median().item(), "worst_gradient": relative.max().item()}


def on_piece(model, x, labels, train, turned=()):
    """The gradient where the ReLUs decide the other way at the places `turned`, pairs of the ReLU's
    number and an index into its values, and all values before ReLUs."""
    values = []

    def relu(z):
        gate = (z > 0).to(z.dtype).contiguous()
        for number, index in turned:
            if number == len(values):
                gate.view(-1)[index] = 1 - gate.view(-1)[index]
        values.append(z.detach())
        return z * gate

    with mock.patch.object(F, "relu", relu):
        return logits_and_gradient(model, x, labels, train)[1], values


def nearest_piece(model, x, labels, train, gradient):
    """Whether rounding has only turned signs before ReLUs: of the values nearest to 0 those are
    turned, one by one, that bring the reference nearest to `gradient`. Their number, and the largest
    relative error of an image that is left."""
    _, values = on_piece(model, x, labels, train)
    nearest = []
    for number, z in enumerate(values):
        size = z.abs().flatten() / z.abs().mean()
        smallest, indices = size.topk(4, largest=False)
        nearest += zip(smallest.tolist(), [number] * 4, indices.tolist())
    candidates = [(number, index) for _, number, index in sorted(nearest)[:8]]
    turned, left = [], float("inf")
    while candidates and len(turned) < 4:
        def error(place):
            wanted, _ = on_piece(model, x, labels, train, [*turned, place])
            norms = [(part.flatten(1)).norm(dim=1) for part in (gradient.double() - wanted, wanted)]
            return (norms[0] / norms[1]).max().item()

        best, place = min((error(place), place) for place in candidates)
        if best >= left:
            break
        left = best
        turned.append(place)
        candidates.remove(place)
    return {"turned": len(turned), "left": left}


def compare(weights, naming, ours, bn):
    model = models.load_checkpoint(weights, naming)
    file = load_file(ours)
    x = file["x"].permute(0, 3, 1, 2).contiguous()
    dx = file["dx"].permute(0, 3, 1, 2)
    labels = torch.arange(len(x)) % 10
    train = bn == "train"
    reference = logits_and_gradient(model.double(), x.double(), labels, train)
    single = logits_and_gradient(model.float(), x, labels, train)
    found = {"ours": errors(file["logits"].flatten(1), dx, reference),
             "torch": errors(*single, reference)}
    if found["ours"]["worst_gradient"] > 1e-3:
        found["nearest"] = nearest_piece(model.double(), x.double(), labels, train, dx)
    return found


# --- vectors for the tests ---

SPECS = [
    {"name": "cnn_small", "width": 4},
    {"name": "preact_resnet18", "width": 2},
    {"name": "preact_resnet18_raw", "width": 2},
    {"name": "resnet18", "width": 2},
    {"name": "resnet50", "width": 2, "height": 16, "image_width": 24},
    {"name": "wrn_28_10", "width": 2},
    {"name": "mnist_net", "width": 4, "image_width": 12},
    {"name": "wrn_28_10_silu", "width": 2},
]
# Exact in float32, so that Ringfort's float64 passes see the same numbers.
SGD = {"lr": 0.125, "momentum": 0.875, "weight_decay": 2.0**-10}
CHECKPOINT_FORMAT = 1  # kCheckpointFormat in models/checkpoint.h
BATCH, STEPS = 6, 2


def randomise(model, generator):
    """Weights, norm parameters and statistics of which none is at its initial 0 or 1."""
    def uniform(tensor, low, high):
        with torch.no_grad():
            tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))

    for name, value in models.ringfort_state(model).items():
        if value.dim() > 1:
            bound = (3 / value[0].numel()) ** 0.5
            uniform(value, -bound, bound)
        elif name.endswith("bn3.weight"):
            # At the ends of 16 branches: with larger ones rounding grows from block to block.
            uniform(value, 0.0625, 0.125)
        elif name.endswith("running_var") or name.endswith("weight"):  # of a norm
            uniform(value, 0.5, 1.5)
        else:
            uniform(value, -0.3, 0.3)


def trained(model, x, labels):
    """Parameters and statistics after STEPS steps of SGD on the same batch."""
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()
    return models.ringfort_state(model)


def channels_last(x):
    return x.permute(0, 2, 3, 1).contiguous()


NAMINGS = [("cnn_small", "ringfort"), ("mnist_net", "ringfort"), ("preact_resnet18", "ringfort"),
           ("resnet18", "ringfort"), ("resnet18", "torchvision"), ("resnet50", "torchvision"),
           ("wrn_28_10", "ringfort"), ("wrn_28_10", "trades"), ("wrn_28_10_silu", "ringfort"),
           ("wrn_28_10_silu", "deepmind")]


def write_state_dicts(path):
    """A line for each model and naming, then one for each tensor of its state dict."""
    with open(path, "w") as file:
        for name, naming in NAMINGS:
            model = models.make_model({"name": name, "width": 4, "classes": 10, "channels": 3,
                                       "height": 8, "image_width": 8, "mean": [], "std": []},
                                      naming)
            print(f"# {name} {naming}", file=file)
            for key, value in sorted(model.state_dict().items()):
                kind = {torch.float32: "F32", torch.int64: "I64"}[value.dtype]
                print(key, kind, ", ".join(map(str, value.shape)), file=file)


def write_vectors(folder):
    # Ringfort keeps batch norm's momentum as a float32.
    models.MOMENTUM = torch.tensor(0.1).item()
    models.SILU_MOMENTUM = torch.tensor(0.01).item()
    generator = torch.Generator().manual_seed(20)
    for spec in SPECS:
        spec = {"channels": 3, "classes": 10, "height": 8, "image_width": 8,
                "mean": [0.5, 0.4375, 0.375], "std": [0.25, 0.3125, 0.21875]} | spec
        model = models.make_model(spec)
        randomise(model, generator)
        x = torch.rand(BATCH, 3, spec["height"], spec["image_width"], generator=generator)
        labels = torch.randint(10, (BATCH,), generator=generator)
        save_file(models.ringfort_state(model), folder / f"parity-{spec['name']}.safetensors",
                  {"ringfort.model": json.dumps(spec | {"format": CHECKPOINT_FORMAT})})
        model = model.double()
        expected = {"x": channels_last(x), "labels": labels}
        for bn in ("eval", "train"):
            logits, gradient = logits_and_gradient(model, x.double(), labels, bn == "train")
            expected |= {f"{bn}.logits": logits, f"{bn}.dx": channels_last(gradient)}
        for name, value in trained(model, x.double(), labels).items():
            expected[f"trained.{name}"] = value.contiguous()
        save_file(expected, folder / f"parity-{spec['name']}-expected.safetensors")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--vectors"]:
        write_vectors(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["--state-dicts"]:
        write_state_dicts(sys.argv[2])
    else:
        serve.arguments()
        serve.serve(lambda words: compare(*words))
