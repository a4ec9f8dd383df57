"""SGD with momentum over preact_resnet18's parameters: the faster of PyTorch's foreach and fused."""

import serve
import torch

from models import PreActResNet18


def make_optimizer(**kind):
    parameters = list(PreActResNet18().parameters())
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-6)
    return torch.optim.SGD(parameters, lr=1e-6, momentum=0.9, weight_decay=5e-4, **kind)


def make_work(_name):
    optimizers = [make_optimizer(foreach=True), make_optimizer(fused=True)]
    seconds = []
    for optimizer in optimizers:
        optimizer.step()
        seconds.append(serve.seconds_of(optimizer.step, 0.2))
    return optimizers[seconds.index(min(seconds))].step


if __name__ == "__main__":
    serve.arguments()
    serve.serve_timings(make_work)
