"""Loads a student of rslad into a PyTorch network with the state-dict names of the official code."""
import json

import torch
from safetensors import safe_open

NORMS = {"none": "0/1", "cifar10": "0.4914,0.4822,0.4465/0.2471,0.2435,0.2616",
         "cifar100": "0.5071,0.4865,0.4409/0.2673,0.2564,0.2762"}


def load(path, network):
    """A function from images in [0, 1] to logits: `network` in eval mode with the weights of `path`."""
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["rslad"])  # architecture, options, how it was made
        network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})
    norm = about["model"]["norm"]
    mean, std = (torch.tensor([float(v) for v in part.split(",")]).view(1, -1, 1, 1)
                 for part in NORMS.get(norm, norm).split("/"))
    network.eval()
    return lambda x: network((x - mean) / std)
