"""A LoRA adapter as PEFT stores it, read by hand: beside the weights, not merged into them, so that what is measured is
what serving an adapter costs. PEFT itself is not needed. Every tensor of the adapter must find its place."""
import json
import os

from .wire import Refused

PREFIX = "base_model.model."
# of adapter_config.json: other values than these change the arithmetic, which is then not what is done here
MUST_BE = {"peft_type": ("LORA",), "bias": ("none", None), "use_dora": (False, None), "modules_to_save": (None, []),
           "fan_in_fan_out": (False, None), "layer_replication": (None, []), "lora_bias": (False, None),
           "trainable_token_indices": (None, [], {}), "target_parameters": (None, []), "use_qalora": (False, None),
           "alora_invocation_tokens": (None, []), "megatron_config": (None,)}


def find(path):
    """The folder of the adapter: as it is, or fetched from the hub."""
    if os.path.isdir(path):
        return path
    if path.startswith(("/", ".", "~")):
        raise Refused("model_load", f"the adapter {path} is no folder")
    from huggingface_hub import snapshot_download
    try:
        return snapshot_download(path, allow_patterns=["adapter_*"])
    except Exception as e:
        raise Refused("model_load", f"the adapter {path} could not be fetched: {type(e).__name__}: {e}") from None


def read_config(folder):
    try:
        with open(os.path.join(folder, "adapter_config.json"), encoding="utf-8") as f:
            c = json.load(f)
        if not isinstance(c, dict):
            raise ValueError("adapter_config.json is no object")
    except (OSError, ValueError) as e:
        raise Refused("model_load", f"{folder} is no adapter: {e}") from None
    for name, allowed in MUST_BE.items():
        if name in c and c[name] not in allowed:
            raise Refused("unsupported", f"the adapter in {folder} has {name}: {c[name]}, which this worker cannot do")
    if not isinstance(c.get("r"), int) or not isinstance(c.get("lora_alpha"), (int, float)):
        raise Refused("model_load", f"the adapter_config.json of {folder} lacks r or lora_alpha")
    return c


def by_pattern(patterns, name, default):
    """PEFT's rank_pattern and alpha_pattern: keys that a module's name ends with."""
    for key, value in (patterns or {}).items():
        if name == key or name.endswith("." + key):
            return value
    return default


def read_pairs(folder):
    """module name -> {"A": tensor, "B": tensor}"""
    try:
        from safetensors.torch import load_file
        tensors = load_file(os.path.join(folder, "adapter_model.safetensors"))
    except Exception as e:
        raise Refused("model_load", f"the adapter's adapter_model.safetensors cannot be read: {type(e).__name__}: {e}"
                      ) from None
    pairs = {}
    for key, tensor in tensors.items():
        name, _, part = key.removeprefix(PREFIX).rpartition(".lora_")
        if not key.startswith(PREFIX) or part not in ("A.weight", "B.weight") or tensor.dim() != 2:
            raise Refused("unsupported", f"the adapter has a tensor that this worker cannot place: {key}")
        pairs.setdefault(name, {})[part[0]] = tensor
    if not pairs:
        raise Refused("model_load", f"the adapter in {folder} is empty")
    return pairs


def make_module(torch):
    class LoraLinear(torch.nn.Module):
        """y = W x + scale · B (A x)"""

        def __init__(self, base, a, b, scale):
            super().__init__()
            self.base, self.scale = base, scale
            self.lora_a, self.lora_b = (torch.nn.Parameter(t, requires_grad=False) for t in (a, b))

        def forward(self, x):
            y = self.base(x)
            return y + (self.scale * ((x.to(self.lora_a.dtype) @ self.lora_a.T) @ self.lora_b.T)).to(y.dtype)

    return LoraLinear


def attach(torch, model, path, dtype):
    """Wraps the linear layers that the adapter names; what was done, for the engine's options."""
    folder = find(path)
    c, pairs = read_config(folder), read_pairs(folder)
    linear, lora = torch.nn.Linear, make_module(torch)
    for name, pair in pairs.items():
        try:
            base = model.get_submodule(name)
        except AttributeError:
            raise Refused("model_load", f"the adapter is for another model: this one has no {name}") from None
        if not isinstance(base, linear) or len(pair) != 2:
            raise Refused("unsupported", f"the adapter changes {name}, which is no linear layer, or by half a pair")
        a, b = (pair[k].to(base.weight.device, dtype) for k in "AB")
        rank = by_pattern(c.get("rank_pattern"), name, c["r"])
        if a.shape != (rank, base.in_features) or b.shape != (base.out_features, rank):
            raise Refused("model_load", f"the adapter is for another model: {name} has {base.in_features} inputs and "
                          f"{base.out_features} outputs, its tensors are {tuple(a.shape)} and {tuple(b.shape)}")
        alpha = by_pattern(c.get("alpha_pattern"), name, c["lora_alpha"])
        scale = alpha / (rank ** 0.5 if c.get("use_rslora") else rank)
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, lora(base, a, b, scale))
    return {"path": path, "rank": c["r"], "modules": len(pairs), "merged": False}
