# SPDX-License-Identifier: Apache-2.0
"""Checks wisp logits on the checkpoints of make_checkpoints.py, whole prompt and token by token, against forward.py and, where
transformers has the architecture, against its logits in transformers.json.

    check.py WISP FOLDER [--device D] [--limit NMSE] [NAME...]

Ends with "N passed, N failed, N skipped"; the exit code says whether all passed.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np

import make_checkpoints
import make_transformers


def logits(wisp, folder, ids, device, *options):
    command = [wisp, "logits", "-m", str(folder), "--ids", ",".join(map(str, ids)), "--device", device, "--kv", "f32", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr else f"exit code {done.returncode}")
    return np.array(json.loads(done.stdout)["logits"])


def nmse(found, truth):
    return float(np.sum((found - truth) ** 2) / np.sum(truth**2))


def witness_error(found, folder, witness):
    """NMSE of the witness's positions; its logits hold for one checkpoint only."""
    if make_transformers.fingerprint(folder) != witness["sha256"]:
        raise RuntimeError("transformers.json is of another checkpoint; make_transformers.py makes it anew")
    return nmse(found[witness["positions"]], np.array(witness["logits"]))


def sharing_problems(wisp, folder, device):
    """What is wrong with sharing blocks: nothing, if it gives the bits of the model that has each block twice, from half its bytes."""
    shared, doubled = make_checkpoints.write(folder, "mobilellm-ls"), make_checkpoints.write_doubled(folder)
    ids = json.loads((shared / "expected.json").read_text(encoding="utf-8"))["ids"]
    for how in ([], ["--step"]):
        if not np.array_equal(logits(wisp, shared, ids, device, *how), logits(wisp, doubled, ids, device, *how)):
            yield f"logits{' --step' if how else ''} differ"
    info = {}
    for path in (shared, doubled):
        done = subprocess.run([wisp, "info", str(path), "--json"], capture_output=True, text=True, check=True)
        info[path] = json.loads(done.stdout)
    a, b = info[shared], info[doubled]
    blocks = make_checkpoints.BASE["num_hidden_layers"]
    for key, expected in {"weight_blocks": blocks, "executed_blocks": 2 * blocks, "kv_slots": 2 * blocks}.items():
        if a[key] != expected:
            yield f"{key} is {a[key]}, expected {expected}"
    outside = 4 * (make_checkpoints.BASE["vocab_size"] + 1) * make_checkpoints.BASE["hidden_size"]  # embedding, final norm
    if 2 * (a["weight_bytes"] - outside) != b["weight_bytes"] - outside:
        yield f"weight_bytes {a['weight_bytes']} against {b['weight_bytes']}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("wisp")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=float, default=1e-8)
    arguments = parser.parse_intermixed_args()
    witnesses = json.loads(make_transformers.FILE.read_text(encoding="utf-8"))["checkpoints"]
    passed = failed = 0
    for name in arguments.names or make_checkpoints.CHECKPOINTS:
        folder = make_checkpoints.write(arguments.folder, name)
        expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
        truth = np.array(expected["logits"])
        for how in ([], ["--step"]):
            try:
                found = logits(arguments.wisp, folder, expected["ids"], arguments.device, *how)
                error = nmse(found, truth)
                said = f"NMSE {error:.1e}"
                if name in witnesses:
                    second = witness_error(found, folder, witnesses[name])
                    said, error = f"{said}, {second:.1e} against transformers", max(error, second)
            except RuntimeError as problem:
                error, said = float("inf"), str(problem)
            good = error <= arguments.limit
            passed, failed = passed + good, failed + (not good)
            print(f"{'ok  ' if good else 'FAIL'}  {name}{' --step' if how else ''}: {said}", flush=True)
    if arguments.device == "cpu" and not arguments.names:
        problems = list(sharing_problems(arguments.wisp, arguments.folder, arguments.device))
        passed, failed = passed + (not problems), failed + bool(problems)
        print(f"{'FAIL' if problems else 'ok  '}  a shared block is two equal blocks {'; '.join(problems)}".rstrip())
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
