# SPDX-License-Identifier: Apache-2.0
"""A second witness for the checkpoints of make_checkpoints.py: llama.cpp, on the GGUF files that wisp convert makes of them.

    llamacpp.py WISP FOLDER [NAME...]

Prints the NMSE of llama.cpp's logits, in float32, against forward.py's, and whether both choose the same tokens greedily. What
llama.cpp does not know, it must refuse. Needs the PyPI packages xllamacpp, gguf and numpy. Ends with "N passed, N failed, N skipped".
"""

import json
import pathlib
import subprocess
import sys

import numpy as np

import make_checkpoints

sys.path.append(str(pathlib.Path(__file__).parent.parent / "truth"))

# Architectures that llama.cpp does not know; and of llama4 it wants experts, which MobileLLM-R1 has none of.
REFUSED = ("mobilellm-ls", "mobilellm-pro", "mobilellm-r1")
# llama.cpp looks GELU up in a table of float16 values.
LIMIT = {"gemma3": 1e-6}


def load(path):
    import make_llamacpp

    return make_llamacpp.Engine(path, float32=True)


def check(wisp, folder, name):
    """"NMSE ...", or raises."""
    source = make_checkpoints.write(folder, name)
    path = folder / f"{name}.gguf"
    subprocess.run([wisp, "convert", str(source), "-o", str(path), "--type", "f32"], check=True, capture_output=True)
    expected = json.loads((source / "expected.json").read_text(encoding="utf-8"))
    # A process of its own: a model that is refused ends it.
    script = (
        f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r}); import json, llamacpp\n"
        f"engine = llamacpp.load({str(path)!r})\n"
        f"print('LOGITS' + json.dumps([[float(v) for v in row] for row in engine.decode({expected['ids']!r}, True)]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("LOGITS")]
    if not lines:
        reason = [line for line in done.stderr.splitlines() if "unknown model architecture" in line or "error" in line.lower()]
        return None, reason[0] if reason else done.stderr.strip()[-200:]
    found, truth = np.array(json.loads(lines[0][6:])), np.array(expected["logits"])
    error = float(np.sum((found - truth) ** 2) / np.sum(truth**2))
    same = bool(np.array_equal(found.argmax(axis=1), truth.argmax(axis=1)))
    return error, f"NMSE {error:.1e}, {'the same' if same else 'OTHER'} greedy tokens"


def main():
    wisp, folder, names = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
    passed = failed = 0
    for name in names or make_checkpoints.CHECKPOINTS:
        error, said = check(wisp, folder, name)
        good = error is None if name in REFUSED else error is not None and error <= LIMIT.get(name, 1e-8) and "OTHER" not in said
        passed, failed = passed + good, failed + (not good)
        print(f"{'ok  ' if good else 'FAIL'}  {name}: {'refused: ' if error is None else ''}{said}", flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
