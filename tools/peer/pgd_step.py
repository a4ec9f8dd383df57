"""The PGD-10 training step of bench/pgd_step.cpp in PyTorch, in its fastest eager form.

The attack asks for the input gradient alone (torch.autograd.grad) under running statistics; the
training pass runs in train mode with SGD. Of the two memory formats the faster one is taken.
--dtype float32 | bfloat16 (autocast) | mixed (bfloat16 attack, float32 training).
"""

import serve
import torch
from torch.nn import functional as F

from models import PreActResNet18

EPS, ALPHA, STEPS = 8 / 255, 2 / 255, 10


class Step:
    def __init__(self, memory_format, batch, dtype):
        torch.manual_seed(1)
        self.model = PreActResNet18().to(memory_format=memory_format)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.001, momentum=0.9,
                                         weight_decay=5e-4, foreach=True)
        self.x_nat = torch.rand(batch, 3, 32, 32).to(memory_format=memory_format)
        self.labels = torch.arange(batch) % 10
        self.bf16_attack, self.bf16_training = dtype != "float32", dtype == "bfloat16"

    def loss(self, x, bfloat16, reduction):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = self.model(x)
        return F.cross_entropy(logits.float(), self.labels, reduction=reduction)

    def attack_step(self, x_adv):
        x_adv.requires_grad_()
        grad, = torch.autograd.grad(self.loss(x_adv, self.bf16_attack, "sum"), x_adv)
        with torch.no_grad():
            x_adv = x_adv + ALPHA * grad.sign()
            x_adv = torch.min(torch.max(x_adv, self.x_nat - EPS), self.x_nat + EPS)
            return x_adv.clamp_(0, 1)

    def attack(self, steps=STEPS):
        self.model.eval()
        noise = torch.empty_like(self.x_nat).uniform_(-EPS, EPS)
        x_adv = (self.x_nat + noise).clamp_(0, 1)
        for _ in range(steps):
            x_adv = self.attack_step(x_adv)
        return x_adv

    def __call__(self):
        # Weights need no gradient while the attack runs; autograd.grad forms none of them anyway.
        x_adv = self.attack()
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(x_adv, self.bf16_training, "mean").backward()
        self.optimizer.step()


def main():
    options = serve.arguments(dtype="float32", batch=64)
    formats = {"channels_last": torch.channels_last, "NCHW": torch.contiguous_format}
    seconds = {}
    for name, memory_format in formats.items():
        step = Step(memory_format, options.batch, options.dtype)
        step.attack(1)
        seconds[name] = serve.seconds_of(lambda: step.attack(1))
    form = min(seconds, key=seconds.get)
    step = Step(formats[form], options.batch, options.dtype)

    def answer(words):
        if words == ["form"]:
            return {"form": form}
        return {"seconds": serve.seconds_of(step)}

    serve.serve(answer)


if __name__ == "__main__":
    main()
