"""The training steps of bench/pgd_step.cpp in PyTorch, in its fastest form.

The attack asks for the input gradient alone (torch.autograd.grad) under running statistics; the
training pass runs in train mode with SGD. On the CPU the forms are the two memory formats, eagerly.
On a GPU all are channels last: eager, torch.compile, torch.compile with its CUDA graphs, and the
eager attack captured whole in a CUDA graph; the fastest is taken.
--dtype float32 | bfloat16 (autocast) | mixed (bfloat16 attack, float32 training).
--attack pgd | fgsm-rs, of --steps steps.
"""

import sys

import serve
import torch
from torch.nn import functional as F

import models

EPS = 8 / 255


class Step:
    def __init__(self, options, memory_format=torch.channels_last, compiled=None, captured=False):
        torch.manual_seed(1)
        self.device = options.device
        self.steps = options.steps
        self.alpha = 2 / 255 if options.attack == "pgd" else 1.25 * EPS
        self.model = models.make_model(
            {"name": options.model, "width": options.width, "classes": options.classes,
             "channels": 3, "height": options.size, "image_width": options.size,
             "mean": [], "std": []}).to(memory_format=memory_format)
        self.compiled = compiled
        self.network = torch.compile(self.model, mode=compiled) if compiled else self.model
        kind = {"fused": True} if options.device == "cuda" else {"foreach": True}
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.001, momentum=0.9,
                                         weight_decay=5e-4, **kind)
        self.x_nat = torch.rand(options.batch, 3, options.size, options.size).to(
            memory_format=memory_format)
        self.labels = torch.arange(options.batch) % options.classes
        self.bf16_attack = options.dtype != "float32"
        self.bf16_training = options.dtype == "bfloat16"
        self.graph = self.x_adv = None
        if captured:
            self.capture()

    def loss(self, x, bfloat16, reduction):
        # Autocast's cache of converted weights must not outlive a capture.
        with torch.autocast(self.device, torch.bfloat16, enabled=bfloat16,
                            cache_enabled=not torch.cuda.is_available()):
            logits = self.network(x)
        return F.cross_entropy(logits.float(), self.labels, reduction=reduction)

    def attack_step(self, x_adv):
        x_adv.requires_grad_()
        grad, = torch.autograd.grad(self.loss(x_adv, self.bf16_attack, "sum"), x_adv)
        with torch.no_grad():
            x_adv = x_adv + self.alpha * grad.sign()
            x_adv = torch.min(torch.max(x_adv, self.x_nat - EPS), self.x_nat + EPS)
            return x_adv.clamp_(0, 1)

    def attack(self, steps=None):
        # A compiled backward forms the gradients of all that requires one, asked for or not.
        self.model.requires_grad_(False)
        x_adv = self.perturbed(steps)
        self.model.requires_grad_(True)
        return x_adv

    def perturbed(self, steps):
        self.model.eval()
        noise = torch.empty_like(self.x_nat).uniform_(-EPS, EPS)
        x_adv = (self.x_nat + noise).clamp_(0, 1)
        for _ in range(steps or self.steps):
            # Graphs of torch.compile reuse the memory of their outputs.
            x_adv = self.attack_step(x_adv.clone() if self.compiled else x_adv)
        return x_adv

    def capture(self):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.attack()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.x_adv = self.attack()
        self.graph = graph

    def __call__(self):
        if self.graph is None:
            x_adv = self.attack()
        else:
            self.graph.replay()
            x_adv = self.x_adv
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(x_adv.detach(), self.bf16_training, "mean").backward()
        self.optimizer.step()


def forms(options):
    """Name -> arguments of Step."""
    if options.device == "cpu":
        return {"channels_last": {"memory_format": torch.channels_last},
                "NCHW": {"memory_format": torch.contiguous_format}}
    return {"eager": {},
            "torch.compile": {"compiled": "default"},
            "torch.compile with CUDA graphs": {"compiled": "reduce-overhead"},
            "CUDA graph of the attack": {"captured": True}}


def fastest(options):
    """The name of the fastest form, and its step."""
    best_name, best, best_seconds = None, None, float("inf")
    for name, arguments in forms(options).items():
        try:
            step = Step(options, **arguments)
            if options.device == "cpu":
                def work():
                    step.attack(1)
            else:
                work = step
            for _ in range(1 if options.device == "cpu" else 3):
                work()
            seconds = serve.seconds_of(work, 0.0 if options.device == "cpu" else 1.0)
        except Exception as error:  # one form that PyTorch refuses must not hide the others
            print(f"pgd_step.py: {name}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        if options.device != "cpu":
            print(f"pgd_step.py: {name}: {options.batch / seconds:.0f} images/s", file=sys.stderr)
        if seconds < best_seconds:
            best_name, best, best_seconds = name, step, seconds
    return best_name, best


def attack_megabytes(options):
    """Peak memory of the eager attack beyond weights and pixels."""
    step = Step(options)
    step.attack()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step.attack()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def main():
    options = serve.arguments(model="preact_resnet18", width=64, classes=10, size=32,
                              dtype="float32", batch=64, attack="pgd", steps=10)
    form, step = fastest(options)

    def answer(words):
        if words == ["form"]:
            return {"form": form}
        if words == ["memory"]:
            return {"megabytes": attack_megabytes(options)}
        return {"seconds": serve.seconds_of(step, 0.0 if options.device == "cpu" else 0.5)}

    serve.serve(answer)


if __name__ == "__main__":
    main()
