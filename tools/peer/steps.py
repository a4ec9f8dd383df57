"""Writes the vectors of tests/step_parity_test.cpp: two whole steps of each optimizer and method on
the small networks of parity.py, in float64, by the papers' formulas and PyTorch's own optimizers.

`steps.py FOLDER`: reads and writes the vectors in FOLDER, tests/data in the repository.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import models

LR, MOMENTUM, SECOND, DECAY, EPS, STEPS = 0.125, 0.875, 0.75, 2.0**-6, 2.0**-10, 2
GAMMA, BETA, SMOOTHING, AVERAGING, NATURAL = 2.0**-5, 6.0, 0.125, 0.75, 0.5


def load(folder, name):
    model = models.load_checkpoint(folder / f"parity-{name}.safetensors").double().train()
    vectors = load_file(folder / f"parity-{name}-expected.safetensors")
    x = vectors["x"].permute(0, 3, 1, 2).double().contiguous()
    return model, x, vectors["labels"]


# --- losses ---

def cross_entropy(model, x, x_adv, labels):
    return F.cross_entropy(model(x_adv), labels)


def trades(model, x, x_adv, labels):
    """Zhang et al. 2019, with the label smoothing of Gowal et al. 2020 in its natural part."""
    logits = model(x)
    logits_adv = model(x_adv)
    divergence = F.kl_div(F.log_softmax(logits_adv, 1), F.softmax(logits, 1), reduction="batchmean")
    return F.cross_entropy(logits, labels, label_smoothing=SMOOTHING) + BETA * divergence


def dat(model, x, x_adv, labels):
    """Zhang et al. 2022, in the order of the authors' code, which has NATURAL 1 and no smoothing."""
    adversarial = F.cross_entropy(model(x_adv), labels, label_smoothing=SMOOTHING)
    return adversarial + NATURAL * F.cross_entropy(model(x), labels, label_smoothing=SMOOTHING)


# --- optimizers that PyTorch does not have; is_weight: filters and matrices ---

def lars(state, w, g, is_weight):
    """You et al. 2017, as MLPerf's reference has it."""
    ratio = 1.0
    if is_weight and w.norm() > 0 and g.norm() > 0:
        ratio = 0.25 * w.norm() / (g.norm() + DECAY * w.norm() + EPS)
    g = g + (DECAY * w if is_weight else 0)
    state["v"] = MOMENTUM * state.get("v", 0) + LR * ratio * g
    return w - state["v"]


def lamb(corrected, largest, everywhere):
    """You et al. 2020; not corrected, clipped and everywhere as in DAT's code."""
    def step(state, w, g, is_weight):
        t = state["t"] = state.get("t", 0) + 1
        on = is_weight or everywhere
        m = state["m"] = MOMENTUM * state.get("m", 0) + (1 - MOMENTUM) * g
        v = state["v"] = SECOND * state.get("v", 0) + (1 - SECOND) * g * g
        if corrected:
            m, v = m / (1 - MOMENTUM**t), v / (1 - SECOND**t)
        u = m / (v.sqrt() + EPS) + (DECAY * w if on else 0)
        ratio = w.norm().clamp(max=largest) / u.norm() if on and w.norm() > 0 else 1.0
        return w - LR * ratio * u
    return step


class Plain(torch.optim.Optimizer):
    """One of the functions above as an optimizer."""

    def __init__(self, parameters, formula):
        super().__init__(parameters, {})
        self.formula = formula

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for w in group["params"]:
                w.copy_(self.formula(self.state[w], w, w.grad, w.dim() > 1))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=LR, momentum=MOMENTUM, weight_decay=DECAY)


# --- steps ---

def perturb(model, loss):
    """Wu et al. 2020: moves filters and matrices, and returns by what. The running statistics are
    those of the network that is trained, so they are put back."""
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    gradients = torch.autograd.grad(loss(), list(model.parameters()))
    moved = []
    with torch.no_grad():
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
        for w, g in zip(model.parameters(), gradients):
            v = torch.zeros_like(w)
            if w.dim() > 1:
                v = GAMMA * w.norm() / (g.norm() + 1e-20) * g
            w += v
            moved.append(v)
    return moved


def run(folder, name, loss_of, make_optimizer, awp=False, average=False):
    model, x, labels = load(folder, name)
    x_adv = (x + 2.0**-5 * torch.sign(torch.sin(1000 * x))).clamp(0, 1)
    optimizer = make_optimizer(list(model.parameters()))
    averaged = [w.detach().clone() for w in model.parameters()]
    for step in range(STEPS):
        def loss():
            return loss_of(model, x, x_adv, labels)

        moved = perturb(model, loss) if awp else None
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        with torch.no_grad():
            if moved:
                for w, v in zip(model.parameters(), moved):
                    w -= v
            a = AVERAGING if step > 0 else 0.0
            for mean, w in zip(averaged, model.parameters()):
                mean.mul_(a).add_(w, alpha=1 - a)
    if average:
        with torch.no_grad():
            for mean, w in zip(averaged, model.parameters()):
                w.copy_(mean)
    return {name: value.contiguous() for name, value in models.ringfort_state(model).items()}


def main(folder):
    models.MOMENTUM = torch.tensor(0.1).item()
    small, normed = "cnn_small", "preact_resnet18_raw"
    adam = {"lr": LR, "betas": (MOMENTUM, SECOND), "eps": EPS, "weight_decay": DECAY}
    cases = {
        "adam": (small, cross_entropy, lambda p: torch.optim.Adam(p, **adam)),
        "adamw": (small, cross_entropy, lambda p: torch.optim.AdamW(p, **adam)),
        "lars": (small, cross_entropy, lambda p: Plain(p, lars)),
        "lamb": (small, cross_entropy, lambda p: Plain(p, lamb(True, float("inf"), False))),
        "lamb-dat": (small, cross_entropy, lambda p: Plain(p, lamb(False, 1.5, True))),
        "ema": (small, cross_entropy, sgd, False, True),
        "trades": (normed, trades, sgd),
        "awp": (normed, cross_entropy, sgd, True),
        "trades-awp": (normed, trades, sgd, True),
        "dat": (normed, dat, sgd),
        "dat-awp": (normed, dat, lambda p: Plain(p, lamb(False, 1.5, True)), True),
    }
    vectors = {}
    for case, arguments in cases.items():
        for name, value in run(folder, *arguments).items():
            vectors[f"{case}.{name}"] = value
    save_file(vectors, folder / "steps-expected.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
