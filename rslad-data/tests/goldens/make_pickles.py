"""Writes small files of the form of the CIFAR python archives: pickles of protocol 2 as Python 2 made them,
with an array that NumPy itself takes apart. The pixels are those of `Images::new` in ../it/published.rs.

    python3 make_pickles.py        # NumPy 2; writes the *.pickle beside it
"""

import io
import pathlib
import pickle
import struct

import numpy


class Python2(pickle._Pickler):
    """Python 3's pickler, but for strings as Python 2 wrote them and NumPy's names of that time."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, obj):
        short = len(obj) < 256
        self.write((b"U" + bytes([len(obj)]) if short else b"T" + struct.pack("<i", len(obj))) + obj)
        self.memoize(obj)

    def save_str(self, obj):
        self.save_bytes(obj.encode("latin1"))

    def save_global(self, obj, name=None):
        module = "numpy.core.multiarray" if obj.__name__ == "_reconstruct" else "numpy"
        self.write(f"c{module}\n{obj.__name__}\n".encode())
        self.memoize(obj)

    dispatch[bytes] = save_bytes
    dispatch[str] = save_str
    dispatch[type] = save_global
    dispatch[type(numpy.ndarray.__reduce__)] = save_global
    dispatch[type(numpy.ndarray(0).__reduce__()[0])] = save_global


def pixels(n):
    image, channel, row, column = numpy.indices((n, 3, 32, 32))
    values = (image * 37 + channel * 83 + row * 3 + column * 5) % 256
    return values.astype(numpy.uint8).reshape(n, 3072)


def write(name, entries):
    out = io.BytesIO()
    Python2(out, protocol=2).dump(entries)
    loaded = pickle.loads(out.getvalue(), encoding="bytes")
    assert (loaded[b"data"] == entries[b"data"]).all()
    (pathlib.Path(__file__).parent / name).write_bytes(out.getvalue())


N = 3
names = [f"image_{i}.png" for i in range(N)]
write(
    "cifar10_test_batch.pickle",
    {
        b"batch_label": b"testing batch 1 of 1",
        b"labels": [(7 * i + 3) % 10 for i in range(N)],
        b"data": pixels(N),
        b"filenames": names,
    },
)
write(
    "cifar100_test.pickle",
    {
        b"filenames": names,
        b"batch_label": b"testing batch 1 of 1",
        b"fine_labels": [(7 * i + 3) % 100 for i in range(N)],
        b"coarse_labels": [(7 * i + 3) % 20 for i in range(N)],
        b"data": pixels(N),
    },
)
