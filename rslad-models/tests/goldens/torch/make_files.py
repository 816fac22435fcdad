"""State dicts as PyTorch writes them, for the tests of the checkpoint reader.

    python make_files.py        # needs torch==2.15.0, numpy, safetensors; writes the files beside it

Every file holds, in one way or another, the same small network (`tiny_cnn`, width 2), except gray*.pt (another,
for gray images) and odd*.pt, which hold tensors that no network has. expected.safetensors holds the images, their logits in double precision, and
the values of odd*.pt. PyTorch no longer writes the tar format, so plain.tar is put together here as
`legacy_load` of torch/serialization.py reads it, and PyTorch reads it back below.
"""

import argparse
import collections
import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

assert torch.__version__.split("+")[0] == "2.15.0", torch.__version__
HERE = Path(__file__).parent


class TinyCnn(nn.Module):
    def __init__(self, width=2, classes=10, in_channels=3):
        super().__init__()
        channels = [in_channels, width, 2 * width, 4 * width]
        for i in (1, 2, 3):
            stride = 1 if i == 1 else 2
            conv = nn.Conv2d(channels[i - 1], channels[i], 3, stride=stride, padding=1, bias=False)
            setattr(self, f"conv{i}", conv)
            setattr(self, f"bn{i}", nn.BatchNorm2d(channels[i]))
        self.linear = nn.Linear(channels[3], classes)

    def forward(self, x):
        for i in (1, 2, 3):
            x = F.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        return self.linear(x.mean((2, 3)))


# The legacy format keeps the source of every class, with its path on this machine; a test needs neither.
def no_source(_):
    raise OSError


torch.serialization.get_source_lines_and_file = no_source


def trained():
    """A network whose running statistics and counters are not the initial ones."""
    torch.manual_seed(0)
    network = TinyCnn()
    for _ in range(3):
        network(torch.rand(16, 3, 8, 8))
    for p in network.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return network.eval()


def logits64(network, x, normalize=lambda x: x):
    with torch.no_grad():
        return network.double()(normalize(x.double()))


def both(name, thing):
    torch.save(thing, HERE / f"{name}.pt")
    torch.save(thing, HERE / f"{name}-legacy.pt", _use_new_zipfile_serialization=False)


def odd():
    """One tensor of every kind: element types, strides, offsets, shared storages, no elements, no sides."""
    base = torch.arange(24, dtype=torch.float32) / 7
    kinds = {"half": torch.float16, "bfloat16": torch.bfloat16, "double": torch.float64, "long": torch.int64,
             "int": torch.int32, "short": torch.int16, "char": torch.int8, "byte": torch.uint8}
    tensors = {name: torch.tensor([0, 1, 2, 3, 100]).to(kind) for name, kind in kinds.items()}
    tensors |= {
        "negative": torch.tensor([-1, -128], dtype=torch.int8),
        "bool": torch.tensor([True, False, True]),
        "third": (torch.ones(2, dtype=torch.float64) / 3),
        "transposed": base.reshape(4, 6).T,
        "offset": base[5:11],
        "every_third": base[1::3],
        "expanded": torch.tensor([[3.5]]).expand(3, 4),
        "channels_last": base.reshape(1, 4, 2, 3).contiguous(memory_format=torch.channels_last),
        "scalar": torch.tensor(2.5),
        "counter": torch.tensor(391),
        "empty": torch.zeros(0, 3),
        "parameter": nn.Parameter(base[:2].clone()),
    }
    return tensors


def tar(state, path):
    """The format before 0.1.10; the last tensor is a view of the storage of the one before it."""
    dump = lambda thing: pickle.dumps(thing, protocol=2)
    keys = {name: 1000 + i for i, name in enumerate(state)}
    storages, tensors, views = [], [], []
    for name, t in state.items():
        kind = {torch.float32: torch.FloatStorage, torch.int64: torch.LongStorage}[t.dtype]
        storage, raw = 5000 + keys[name], t.contiguous().numpy().tobytes()
        # A root of one element more, of which the tensor's storage is a view.
        pad = bytes(t.element_size())
        storages.append(dump((9000 + keys[name], "cpu", kind)) + struct.pack("<q", t.numel() + 1) + pad + raw)
        views.append((storage, 9000 + keys[name], 1, t.numel()))
        tensor_kind = {torch.float32: torch.FloatTensor, torch.int64: torch.LongTensor}[t.dtype]
        sides = struct.pack(f"<{2 * t.dim()}q", *t.shape, *t.contiguous().stride())
        about = dump((keys[name], storage, None if t.dim() == 0 else tensor_kind))
        tensors.append(about + struct.pack("<ii", t.dim(), 0) + sides + struct.pack("<q", 0))

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            return str(thing.key) if isinstance(thing, Reference) else None

    class Reference:
        def __init__(self, key):
            self.key = key

    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump(collections.OrderedDict((k, Reference(v)) for k, v in keys.items()))
    members = {
        "sys_info": dump({"protocol_version": 1000, "little_endian": True}),
        "pickle": stream.getvalue(),
        "tensors": dump(len(tensors)) + b"".join(tensors),
        "storages": dump(len(storages)) + b"".join(storages) + dump(views),
    }
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    back = torch.load(path, weights_only=False)
    assert list(back) == list(state) and all(torch.equal(back[k], state[k]) for k in state)


def main():
    network = trained()
    state = network.state_dict()
    both("plain", state)
    tar(state, HERE / "plain.tar")

    sgd = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.rand(2, 3, 8, 8)).sum().backward()
    sgd.step()
    state = {k: v.clone() for k, v in network.state_dict().items()}
    wrapped = nn.DataParallel(network)
    training = {
        "epoch": 42,
        "net": wrapped.state_dict(),
        "optimizer": sgd.state_dict(),
        "args": argparse.Namespace(lr=0.1, arch="tiny", out=Path("runs")),
        "best_acc": np.float64(0.5),
        "losses": [0.5, 0.25],
        "device": torch.device("cpu"),
    }
    both("training", training)

    old = {k: v for k, v in state.items() if "num_batches" not in k}
    dead = {f"sub_block1.layer.{i}.conv1.weight": torch.rand(2, 2, 3, 3) for i in range(3)}
    both("trades", old | dead)

    mean, std = [torch.tensor(v).view(1, 3, 1, 1) for v in ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))]
    both("normalized", {"state_dict": {f"module.model.{k}": v for k, v in state.items()} | {"mu": mean, "sigma": std}})
    both("parameters", dict(network.named_parameters()) | dict(network.named_buffers()))
    both("half", {k: v.half() if v.is_floating_point() else v for k, v in state.items()})
    both("odd", odd())
    both("module", network)
    torch.manual_seed(1)
    both("gray", TinyCnn(in_channels=1).state_dict())

    x = torch.rand(4, 3, 8, 8)
    expected = {f"odd.{k}": v.detach().to(torch.int64 if not v.is_floating_point() else torch.float64) for k, v in odd().items()}
    expected |= {"x": x}
    expected["plain"] = logits64(trained(), x)
    later = TinyCnn().eval()
    later.load_state_dict(state)
    expected["trained"] = logits64(later, x)
    later.load_state_dict(state)
    expected["normalized"] = logits64(later.float(), x, lambda x: (x - mean.double()) / std.double())
    later.load_state_dict({k: v.half().float() if v.is_floating_point() else v for k, v in state.items()})
    expected["half"] = logits64(later, x)
    save_file({k: v.contiguous().clone() for k, v in expected.items()}, HERE / "expected.safetensors")


if __name__ == "__main__":
    main()
