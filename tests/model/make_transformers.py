# SPDX-License-Identifier: Apache-2.0
"""Makes transformers.json: logits that the PyPI package transformers computes for checkpoints of make_checkpoints.py.

    make_transformers.py FOLDER

A second witness beside forward.py, for the architectures that transformers has (block sharing it has not). Needs the PyPI packages
transformers, torch and numpy. Each entry: sha256 of what the logits were computed from, ids, and the logits of some positions.
"""

import hashlib
import importlib.metadata
import json
import pathlib
import sys

import make_checkpoints

NAMES = ["llama-tied", "llama-untied", "llama-sharded", "llama-3.2", "qwen2", "qwen3", "gemma3", "mobilellm-r1"]
POSITIONS = [0, 7, 12, 18, 23]
FILE = pathlib.Path(__file__).parent / "transformers.json"


def fingerprint(folder):
    """sha256 of config and weights."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.name.startswith(("config.json", "model", "pytorch_model"))):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def logits(folder, ids):
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").double()
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0, POSITIONS].tolist()


def main():
    folder = pathlib.Path(sys.argv[1])
    entries = {}
    for name in NAMES:
        target = make_checkpoints.write(folder, name)
        ids = json.loads((target / "expected.json").read_text(encoding="utf-8"))["ids"]
        rows = [[float(f"{v:.7g}") for v in row] for row in logits(target, ids)]
        entries[name] = {"sha256": fingerprint(target), "ids": ids, "positions": POSITIONS, "logits": rows}
    made_by = {package: importlib.metadata.version(package) for package in ("transformers", "torch")}
    FILE.write_text(json.dumps({"made_by": made_by, "checkpoints": entries}, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
