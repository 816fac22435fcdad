#!/usr/bin/env python3
"""Makes the embedded data sets of rslad-data from their public sources.

    python3 make_assets.py --digits digits.csv.gz --fashion-mnist DIR [--out DIR]

--digits         sklearn/datasets/data/digits.csv.gz of any scikit-learn wheel (a wheel is a zip file)
--fashion-mnist  the folder with the four *-ubyte.gz files: Debian's package dataset-fashion-mnist
                 puts them into /usr/share/datasets/fashion-mnist

Needs nothing but Python's standard library. Every asset holds one split: zlib over the labels (one byte
each), then the images, each image filtered with PNG's Paeth predictor, which saves a tenth. Running it
again writes the same bytes; another implementation of zlib may compress the same content differently, so
the content hash printed for each split (that of `Dataset::sha256`) is what counts.
"""

import argparse
import gzip
import hashlib
import pathlib
import struct
import zlib

DIGITS_TRAIN = 1437
FASHION_PER_CLASS = {"train": 400, "test": 200}
FASHION_FILES = {"train": "train", "test": "t10k"}


def digits(path):
    """The rows of scikit-learn's table in file order: the first 1,437 are train, the last 360 test."""
    lines = gzip.open(path, "rt").read().split()
    rows = [[int(float(v)) for v in line.split(",")] for line in lines]
    images, labels = [bytes(row[:64]) for row in rows], [row[64] for row in rows]
    assert len(rows) == 1797 and max(map(max, images)) == 16
    yield "train", images[:DIGITS_TRAIN], labels[:DIGITS_TRAIN]
    yield "test", images[DIGITS_TRAIN:], labels[DIGITS_TRAIN:]


def idx(path):
    """The items of a file in the MNIST format: one byte, or one image, each."""
    raw = gzip.open(path).read()
    dims = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    size = (len(raw) - 4 - 4 * len(dims)) // dims[0]
    body = raw[4 + 4 * len(dims) :]
    return [body[i * size : (i + 1) * size] for i in range(dims[0])]


def first_of_each_class(labels, per_class):
    """The positions of the first `per_class` examples of each class, in file order."""
    left = dict.fromkeys(range(10), per_class)
    chosen = []
    for position, label in enumerate(labels):
        if left[label]:
            left[label] -= 1
            chosen.append(position)
    assert not any(left.values())
    return chosen


def fashion_mnist(folder, out):
    """A class-balanced sample of each split; the positions go to a text file."""
    for split, stem in FASHION_FILES.items():
        images = idx(folder / f"{stem}-images-idx3-ubyte.gz")
        labels = [item[0] for item in idx(folder / f"{stem}-labels-idx1-ubyte.gz")]
        chosen = first_of_each_class(labels, FASHION_PER_CLASS[split])
        (out / f"fashion-mnist-{split}-indices.txt").write_text("".join(f"{i}\n" for i in chosen))
        yield split, [images[i] for i in chosen], [labels[i] for i in chosen]


def paeth(image, side):
    """The differences between each pixel and the Paeth prediction from its left and upper neighbors."""
    at = lambda y, x: image[y * side + x] if y >= 0 and x >= 0 else 0
    filtered = bytearray()
    for y in range(side):
        for x in range(side):
            left, up, corner = at(y, x - 1), at(y - 1, x), at(y - 1, x - 1)
            near = left + up - corner
            predicted = min((left, up, corner), key=lambda v: abs(near - v))  # the first of equals
            filtered.append((image[y * side + x] - predicted) % 256)
    return bytes(filtered)


def encode(images, labels, side):
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
    content = bytes(labels) + b"".join(paeth(image, side) for image in images)
    return packer.compress(content) + packer.flush()


def content_sha256(images, labels, side, full_scale):
    """What `Dataset::sha256` computes."""
    n = len(labels)
    h = hashlib.sha256(struct.pack("<6Q", n, 1, side, side, full_scale, 10))
    h.update(struct.pack(f"<{n}Q", *range(n)))
    h.update(struct.pack(f"<{n}I", *labels))
    h.update(b"".join(images))
    return h.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--digits", type=pathlib.Path, required=True)
    parser.add_argument("--fashion-mnist", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    args = parser.parse_args()
    sources = [
        ("digits", 8, 16, digits(args.digits)),
        ("fashion-mnist", 28, 255, fashion_mnist(args.fashion_mnist, args.out)),
    ]
    for name, side, full_scale, splits in sources:
        for split, images, labels in splits:
            packed = encode(images, labels, side)
            (args.out / f"{name}-{split}.zz").write_bytes(packed)
            print(f"{name}-{split}.zz: {len(labels)} images, {len(packed)} bytes")
            print(f"  content {content_sha256(images, labels, side, full_scale)}")


if __name__ == "__main__":
    main()
