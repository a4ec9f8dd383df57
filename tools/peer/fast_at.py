"""Fast AT (Wong et al. 2020) and its evaluation by PGD in plain PyTorch, float32: what
baseline_cifar10.py and baseline_fashion_mnist.py share. Pixels are in [0, 1]; the attack's batch norm
uses running statistics, as in Ringfort's recipes."""

import time

import torch
from torch.nn import functional as F


def cyclic_rate(step, steps, peak_rate, peak_at=0.4):
    """Linear from 0 to peak_rate at `peak_at` of training, then linear to 0."""
    done = (step + 1) / steps
    return peak_rate * (done / peak_at if done < peak_at else (1 - done) / (1 - peak_at))


def pad_crop_flip(x, pad=4):
    """A random crop of the zero-padded images, and half of them mirrored."""
    n, _, height, width = x.shape
    padded = F.pad(x, (pad,) * 4)
    rows = torch.randint(2 * pad + 1, (n,))
    columns = torch.randint(2 * pad + 1, (n,))
    flips = torch.rand(n) < 0.5
    cropped = [image[:, r:r + height, c:c + width]
               for image, r, c in zip(padded, rows.tolist(), columns.tolist())]
    x = torch.stack(cropped)
    x[flips] = x[flips].flip(-1)
    return x


def input_gradient(model, x, labels):
    x = x.detach().requires_grad_()
    loss = F.cross_entropy(model(x), labels, reduction="sum")
    return torch.autograd.grad(loss, x)[0]


def random_start(x, eps):
    return (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)


def step(x_adv, grad, x, alpha, eps):
    x_adv = x_adv + alpha * grad.sign()
    return torch.min(torch.max(x_adv, x - eps), x + eps).clamp(0, 1)


def train(model, images, labels, *, epochs, peak_rate, eps, alpha, augment, batch=128):
    """images: (N, C, H, W) float32; returns seconds."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0, momentum=0.9, weight_decay=5e-4)
    per_epoch = (len(images) + batch - 1) // batch
    done, start = 0, time.perf_counter()
    for epoch in range(epochs):
        total_loss = correct = 0
        for chosen in torch.randperm(len(images)).split(batch):
            x, y = images[chosen], labels[chosen]
            if augment:
                x = pad_crop_flip(x)
            model.eval()
            x_adv = random_start(x, eps)
            x_adv = step(x_adv, input_gradient(model, x_adv, y), x, alpha, eps)
            model.train()
            optimizer.param_groups[0]["lr"] = cyclic_rate(done, epochs * per_epoch, peak_rate)
            logits = model(x_adv)
            loss = F.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            total_loss += loss.item() * len(y)
            correct += (logits.argmax(1) == y).sum().item()
        print(f"epoch {epoch + 1}: loss {total_loss / len(images):.3f}, robust training accuracy "
              f"{correct / len(images):.3f}, {time.perf_counter() - start:.0f} s", flush=True)
    return time.perf_counter() - start


def evaluate(model, images, labels, *, eps, steps=50, restarts=10):
    """Clean accuracy and accuracy under PGD with restarts, as `ringfort evaluate` counts: steps of
    eps / 4, and a sample that is wrong at any iterate has lost and is not attacked again."""
    model.eval()
    with torch.no_grad():
        right = torch.cat([model(x).argmax(1) for x in images.split(250)]) == labels
    clean = right.float().mean().item()
    for _ in range(restarts):
        chosen = right.nonzero().flatten()  # only what is still right is attacked again
        for part in chosen.split(250):
            x_adv = random_start(images[part], eps)
            for iterate in range(steps + 1):
                with torch.no_grad():
                    holds = model(x_adv).argmax(1) == labels[part]
                right[part[~holds]] = False
                part, x_adv = part[holds], x_adv[holds]
                if iterate == steps or not len(part):
                    break
                gradient = input_gradient(model, x_adv, labels[part])
                x_adv = step(x_adv, gradient, images[part], eps / 4, eps)
    return clean, right.float().mean().item()


def report(model, seconds, images, labels, eps):
    clean, robust = evaluate(model, images, labels, eps=eps)
    print(f"training {seconds:.0f} s; first {len(images)} test images: clean {100 * clean:.1f} %, "
          f"PGD-50-10 {100 * robust:.1f} %")
