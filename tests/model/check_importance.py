# SPDX-License-Identifier: Apache-2.0
"""Checks that wisp calibrate writes the sums of squares that forward.py sees before each matrix, under the name of that matrix, and
that wisp convert --importance takes each for the matrix of its name, on checkpoints of make_checkpoints.py.

    check_importance.py WISP FOLDER

Ends with "N passed, N failed, N skipped"; the exit code says whether all passed.
"""

import collections
import pathlib
import struct
import subprocess
import sys

import numpy as np

import containers
import forward
import make_checkpoints

NAMES = ["llama-untied", "mobilellm-ls", "mobilellm-r1", "mobilellm-pro", "qwen2", "qwen3", "gemma3"]
ROLES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}
TEXT = "the heart of the matter is that the hen laid her egg there\n" * 2
BLOCK_BYTES = {0: (1, 4), 2: (32, 18), 8: (32, 34)}  # f32, q4_0, q8_0


class Recorder(forward.Model):
    """Sums the squares of what each matrix is multiplied with."""

    def __init__(self, config, weights):
        super().__init__(config, weights)
        self.sums, self.counts = collections.defaultdict(float), collections.Counter()

    def linear(self, x, name):
        parts = name.split(".")
        role = f"blk.{parts[2]}.{ROLES[parts[-1]]}.weight"
        self.sums[role] = self.sums[role] + np.sum(x * x, axis=0)
        self.counts[role] += len(x)
        return super().linear(x, name)


def read_gguf(data):
    """name -> (offset, size) of its bytes."""
    at = 8

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    def text():
        return take(f"{take('Q')}s").decode()

    def skip(kind):
        if kind == 8:
            text()
        elif kind == 9:
            element, count = take("IQ")
            for _ in range(count):
                skip(element)
        else:
            take("BbHhIifB??Qqd"[kind] if kind < 10 else "Qqd"[kind - 10])

    tensors, entries = take("QQ")
    for _ in range(entries):
        text()
        skip(take("I"))
    table = {}
    for _ in range(tensors):
        name = text()
        dimensions = take("I")
        count = int(np.prod([take("Q") for _ in range(dimensions)]))
        kind, offset = take("IQ")
        weights, size = BLOCK_BYTES[kind]
        table[name] = (offset, count // weights * size)
    start = -(-at // 32) * 32
    return {name: (start + offset, size) for name, (offset, size) in table.items()}


def problems(wisp, folder, name):
    source = make_checkpoints.write(folder, name)
    text, importance, output = folder / "text", folder / f"{name}.importance", folder / f"{name}.q4_0.gguf"
    text.write_text(TEXT, encoding="utf-8")

    def run(*command):
        return subprocess.run([wisp, *map(str, command)], check=True, capture_output=True, text=True).stdout

    ids = [int(i) for i in run("tokenize", "-m", source, "-f", text).split()]
    run("calibrate", "-m", source, "-f", text, "-o", importance, "--window", 128)
    config, weights, _ = make_checkpoints.draw(name)
    dtype = make_checkpoints.CHECKPOINTS[name][1]
    truth = Recorder(config, {n: containers.rounded(w, dtype) for n, w in weights.items()})
    truth.forward(ids)

    data = bytearray(importance.read_bytes())
    table = read_gguf(data)

    def values(tensor):
        offset, size = table[tensor]
        return np.frombuffer(data, "<f4", size // 4, offset)

    for role, sums in truth.sums.items():
        if role + ".in_sum2" not in table:
            yield f"{role} is missing"
            continue
        found = values(role + ".in_sum2")
        if found.shape != sums.shape or np.sum((found - sums) ** 2) > 1e-6 * np.sum(sums**2):
            yield f"{role} has other sums"
        if values(role + ".counts")[0] != truth.counts[role]:
            yield f"{role} was seen {values(role + '.counts')[0]} times, not {truth.counts[role]}"

    convert = ["convert", source, "-o", output, "--type", "q4_0", "--importance", importance]
    run(*convert)
    before = output.read_bytes()
    for role in (f"blk.1.{r}.weight" for r in ROLES.values()):
        offset, size = table[role + ".in_sum2"]
        changed = bytearray(data)
        changed[offset : offset + size] = (np.arange(size // 4, dtype="<f4") ** 4 + 1).tobytes()
        importance.write_bytes(changed)
        run(*convert)
        after = output.read_bytes()
        differ = {n for n, (at, length) in read_gguf(after).items() if before[at : at + length] != after[at : at + length]}
        if differ != {role}:
            yield f"importance of {role} changed {sorted(differ)}"


def main():
    wisp, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    failed = 0
    for name in NAMES:
        found = list(problems(wisp, folder, name))
        failed += bool(found)
        print(f"{'FAIL' if found else 'ok  '}  importance of {name} {'; '.join(found)}".rstrip(), flush=True)
    print(f"{len(NAMES) - failed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
