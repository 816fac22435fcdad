"""The same items as `rslad bench`, in PyTorch: one item in one process, one JSON line.

`cargo xtask bench --python PATH` runs it in turn with rslad; it needs torch and nothing else.
The networks are written after the papers, at the options of rslad's registry; weights are PyTorch's own
initial ones, for a time does not depend on them.
"""

import argparse
import json
import resource
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)), or without the rectifier (an inverted bottleneck)."""

    def __init__(self, body, shortcut, rectify):
        super().__init__()
        self.body, self.shortcut, self.rectify = body, shortcut, rectify

    def forward(self, x):
        y = self.body(x) if self.shortcut is None else self.body(x) + self.shortcut(x)
        return F.relu(y) if self.rectify else y


class PreActivated(nn.Module):
    """The block of TRADES' wide networks: the shortcut convolution reads the activated input."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.enter = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        first = unit(inputs, outputs, 3, stride)
        self.body = nn.Sequential(*first, nn.ReLU(), conv(outputs, outputs, 3))
        self.shortcut = None if inputs == outputs else conv(inputs, outputs, 1, stride)

    def forward(self, x):
        entered = self.enter(x)
        return self.body(entered) + (x if self.shortcut is None else self.shortcut(entered))


class Pooled(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def conv(inputs, outputs, kernel, stride=1, groups=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


def unit(inputs, outputs, kernel, stride=1, groups=1):
    return [conv(inputs, outputs, kernel, stride, groups), nn.BatchNorm2d(outputs)]


def resnet18(width):
    layers, inputs = [*unit(3, width, 3), nn.ReLU()], width
    for stage in range(4):
        outputs = width << stage
        for stride in (1 if stage == 0 else 2, 1):
            same = stride == 1 and inputs == outputs
            shortcut = nn.Identity() if same else nn.Sequential(*unit(inputs, outputs, 1, stride))
            body = nn.Sequential(*unit(inputs, outputs, 3, stride), nn.ReLU(), *unit(outputs, outputs, 3))
            layers.append(Residual(body, shortcut, rectify=True))
            inputs = outputs
    return nn.Sequential(*layers, Pooled(), nn.Linear(inputs, 10))


def mobilenet_v2():
    layers, inputs = [*unit(3, 32, 3), nn.ReLU()], 32
    stages = [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, outputs, blocks, first_stride in stages:
        for block in range(blocks):
            stride, inner = first_stride if block == 0 else 1, expansion * inputs
            enter = [*unit(inputs, inner, 1), nn.ReLU()]
            middle = [*unit(inner, inner, 3, stride, inner), nn.ReLU()]
            shortcut = None
            if stride == 1:
                shortcut = nn.Identity() if inputs == outputs else nn.Sequential(*unit(inputs, outputs, 1))
            body = nn.Sequential(*enter, *middle, *unit(inner, outputs, 1))
            layers.append(Residual(body, shortcut, rectify=False))
            inputs = outputs
    return nn.Sequential(*layers, *unit(320, 1280, 1), nn.ReLU(), Pooled(), nn.Linear(1280, 10))


def wrn(depth, width):
    layers, inputs = [conv(3, 16, 3)], 16
    for stage in range(3):
        for block in range((depth - 4) // 6):
            outputs = (16 * width) << stage
            layers.append(PreActivated(inputs, outputs, 2 if stage > 0 and block == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.BatchNorm2d(inputs), nn.ReLU(), Pooled(), nn.Linear(inputs, 10))


NETWORKS = {
    "resnet18": lambda: resnet18(64),
    "resnet18-w16": lambda: resnet18(16),
    "mobilenet_v2": mobilenet_v2,
    "wrn34-10": lambda: wrn(34, 10),
}


class Bench:
    def __init__(self, network, x, mode):
        self.network, self.x = network, x
        self.call = torch.compile(network) if mode == "compile" else network
        self.half = mode == "bf16"
        torch.backends.cudnn.allow_tf32 = mode == "tf32"
        self.target = torch.softmax(torch.randn(len(x), 10, device=x.device), 1)
        self.optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9, weight_decay=2e-4)

    def logits(self, x):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.half):
            return self.call(x).float()

    def loss(self, x, reduction):
        return F.kl_div(F.log_softmax(self.logits(x), 1), self.target, reduction=reduction)

    def input_gradient(self, x):
        x = x.detach().requires_grad_(True)
        return torch.autograd.grad(self.loss(x, "sum"), [x])[0]

    def forward(self):
        self.network.eval()
        with torch.no_grad():
            self.logits(self.x)

    def gradient(self):
        self.network.eval()
        self.input_gradient(self.x)

    def descend(self, loss):
        self.optimizer.zero_grad()
        loss().backward()
        self.optimizer.step()

    def train(self):
        self.network.train()
        self.descend(lambda: self.loss(self.x, "batchmean"))

    def step(self, eps=8 / 255, size=2 / 255):
        self.network.eval()
        x_adv = self.x + 0.001 * torch.randn_like(self.x)
        for _ in range(10):
            x_adv = x_adv + size * self.input_gradient(x_adv).sign()
            x_adv = torch.min(torch.max(x_adv, self.x - eps), self.x + eps).clamp(0, 1)
        self.network.train()
        self.descend(lambda: (5 * self.loss(x_adv, "batchmean") + self.loss(self.x, "batchmean")) / 6)


def timed(run, device):
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("item", choices=["forward", "gradient", "train", "step"])
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--layout", choices=["contiguous", "channels_last"], default="channels_last")
    parser.add_argument("--mode", choices=["eager", "compile", "tf32", "bf16"], default="eager")
    parser.add_argument("--device", type=torch.device, default="cpu")
    args = parser.parse_args()
    idle = peak_mib()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    layout = torch.channels_last if args.layout == "channels_last" else torch.contiguous_format
    network = NETWORKS[args.network]().to(args.device, memory_format=layout)
    x = torch.rand(args.batch, 3, 32, 32).to(args.device, memory_format=layout)
    run = getattr(Bench(network, x, args.mode), args.item)
    timed(run, args.device)
    seconds = [timed(run, args.device) for _ in range(args.runs)]
    line = {"median_s": statistics.median(seconds), "min_s": min(seconds), "peak_mib": peak_mib(), "idle_mib": idle}
    print(json.dumps(line | {"torch": torch.__version__}))


main()
