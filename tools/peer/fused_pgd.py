"""The attack kernels of bench/fused_pgd.cpp as PyTorch users write them (torchattacks), eagerly."""

import serve
import torch
from torch.nn import functional as F

EPS, ALPHA = 8 / 255, 2 / 255
L2_EPS, L2_ALPHA = 0.5, 0.1


def linf_start(x):
    return torch.clamp(x + torch.empty_like(x).uniform_(-EPS, EPS), 0, 1)


def linf_step(x, adv, grad):
    adv = adv + ALPHA * grad.sign()
    delta = torch.clamp(adv - x, -EPS, EPS)
    return torch.clamp(x + delta, 0, 1)


def norms(x):
    return x.flatten(1).norm(p=2, dim=1).view(-1, 1, 1, 1)


def l2_start(x):
    delta = torch.empty_like(x).normal_()
    radius = torch.empty(len(x), 1, 1, 1).uniform_(0, 1)
    return torch.clamp(x + delta * (radius / norms(delta) * L2_EPS), 0, 1)


def l2_step(x, adv, grad):
    adv = adv + L2_ALPHA * grad / (norms(grad) + 1e-10)
    delta = adv - x
    factor = torch.clamp(L2_EPS / norms(delta), max=1)
    return torch.clamp(x + delta * factor, 0, 1)


def make_work(name, size, classes=0):
    torch.manual_seed(1)
    if name == "cross_entropy":
        logits = (10 * torch.rand(size, classes) - 5).requires_grad_()
        labels = torch.arange(size) % classes

        def work():
            logits.argmax(1)  # the prediction, which Ringfort's kernel gives as well
            loss = F.cross_entropy(logits, labels, reduction="none")
            torch.autograd.grad(loss.sum(), logits)

        return work
    x, adv, grad = (torch.rand(size, 3, 32, 32).to(memory_format=torch.channels_last)
                    for _ in range(3))
    grad -= 0.5
    function = {"linf_start": linf_start, "linf_step": linf_step, "l2_start": l2_start,
                "l2_step": l2_step}[name]
    inputs = (x,) if name.endswith("start") else (x, adv, grad)

    def work():
        with torch.no_grad():
            function(*inputs)

    return work


if __name__ == "__main__":
    serve.arguments()
    serve.serve_timings(make_work)
