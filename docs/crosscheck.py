"""Runs other implementations of AutoAttack on a network of ours and prints the results side by side.

    rslad eval --model M --data digits --n 100 --attack fgsm --eps 0 --save-adversarial --out images
    rslad eval --model M --data digits --n 100 --suite autoattack --out ours
    python docs/crosscheck.py --model M --images images --ours ours --autoattack CHECKOUT

At radius 0 the saved points are the images themselves. CHECKOUT is a clone of github.com/fra31/auto-attack; torchattacks
is used if it can be imported. Needs torch, numpy and safetensors. Knows `resnet18` (any width and blocks) and `tiny_cnn`.
"""

import argparse
import json
import sys
import time

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn


class Block(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, in_channels, classes, width, blocks):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        c_in = width
        for stage, n in enumerate(blocks):
            c_out, layers = width << stage, []
            for block in range(n):
                layers.append(Block(c_in, c_out, 2 if block == 0 and stage > 0 else 1))
                c_in = c_out
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.stages = len(blocks)
        self.linear = nn.Linear(c_in, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.linear(x.mean((2, 3)))


class TinyCnn(nn.Module):
    def __init__(self, in_channels, classes, width):
        super().__init__()
        c_in = in_channels
        for i, stride in enumerate((1, 2, 2)):
            setattr(self, f"conv{i + 1}", nn.Conv2d(c_in, width << i, 3, stride, 1, bias=False))
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(width << i))
            c_in = width << i
        self.linear = nn.Linear(c_in, classes)

    def forward(self, x):
        for i in "123":
            x = F.relu(getattr(self, "bn" + i)(getattr(self, "conv" + i)(x)))
        return self.linear(x.mean((2, 3)))


def network(path, arch):
    state = {k: v for k, v in load_file(path).items()}
    classes, width = state["linear.weight"].shape[0], state["conv1.weight"].shape[0]
    channels = state["conv1.weight"].shape[1]
    if arch == "tiny_cnn":
        net = TinyCnn(channels, classes, width)
    else:
        blocks = []
        for stage in range(1, 5):
            names = {k.split(".")[1] for k in state if k.startswith(f"layer{stage}.")}
            blocks += [len(names)] if names else []
        net = ResNet(channels, classes, width, blocks)
    print("missing or unexpected:", net.load_state_dict(state, strict=False))
    return net.eval()


def standing(net, x, y):
    with torch.no_grad():
        return net(x).argmax(1) == y


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--arch", default="resnet18", choices=["resnet18", "tiny_cnn"])
    parser.add_argument("--images", required=True)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--autoattack")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    net = network(args.model, args.arch)
    with safe_open(f"{args.images}/per_example.safetensors", "pt") as f:
        x, y = f.get_tensor("fgsm/x_adv"), f.get_tensor("label").long()
    with open(f"{args.ours}/result.json") as f:
        ours = json.load(f)
    above, _, below = ours["eps"].partition("/")
    eps = float(above) / float(below or 1)
    clean = standing(net, x, y)
    rows = [("rslad", ours["clean"]["accuracy"], ours["columns"][0]["accuracy"], ours["columns"][0]["seconds"])]
    with safe_open(f"{args.ours}/per_example.safetensors", "pt") as f:
        mine = f.get_tensor(f"{ours['columns'][0]['name']}/robust").bool()

    def run(name, attack):
        begin = time.time()
        x_adv = attack()
        stands = standing(net, x_adv, y) & clean
        seconds = time.time() - begin
        rows.append((name, clean.float().mean().item(), stands.float().mean().item(), seconds))
        print(f"{name}: verdicts differ on images {torch.nonzero(stands != mine).flatten().tolist()}")

    if args.autoattack:
        sys.path.insert(0, args.autoattack)
        from autoattack import AutoAttack

        reference = AutoAttack(net, norm="Linf", eps=eps, seed=args.seed, device="cpu", version="standard")
        run("fra31/auto-attack", lambda: reference.run_standard_evaluation(x, y, bs=250))
    try:
        import torchattacks

        # Its `n_classes` decides the number of targets: all wrong classes.
        attack = torchattacks.AutoAttack(net, norm="Linf", eps=eps, seed=args.seed, n_classes=net.linear.out_features)
        run("torchattacks", lambda: attack(x, y))
    except ImportError:
        print("torchattacks is not installed")
    print(f"\n{'':20} {'clean':>8} {'AA':>8} {'seconds':>8}")
    for name, c, robust, seconds in rows:
        print(f"{name:20} {100 * c:8.2f} {100 * robust:8.2f} {seconds:8.1f}")


if __name__ == "__main__":
    main()
