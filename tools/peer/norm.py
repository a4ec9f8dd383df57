"""Batch norm and ReLU of bench/norm.cpp in PyTorch, channels last."""

import sys

import serve
import torch
from torch.nn import functional as F

SHAPE = (64, 64, 32, 32)


def make_case(training, backward):
    torch.manual_seed(1)
    x, dy = (torch.rand(SHAPE).to(memory_format=torch.channels_last) - 0.5 for _ in range(2))
    gamma, beta = torch.ones(64), torch.full((64,), 0.1)
    mean, var = torch.zeros(64), torch.ones(64)

    def forward():
        return F.relu(F.batch_norm(x, mean, var, gamma, beta, training))

    if not backward:
        def work():
            with torch.no_grad():
                forward()
        return work
    leaves = (x.requires_grad_(),)
    if training:
        leaves += (gamma.requires_grad_(), beta.requires_grad_())
    y = forward()
    return lambda: torch.autograd.grad(y, leaves, dy, retain_graph=True)


def main():
    serve.arguments()
    made = {}

    def answer(words):
        name = " ".join(words)  # "batch statistics, forward"
        if name not in made:
            made[name] = make_case(name.startswith("batch"), name.endswith("backward"))
            made[name]()
        return {"seconds": serve.seconds_of(made[name], 0.05)}

    serve.serve(answer)


if __name__ == "__main__":
    sys.exit(main())
