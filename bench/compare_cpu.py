#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Wisp's CPU side against llama.cpp: same machine, same file, same threads, in turns.

    python3 -m venv VENV && VENV/bin/pip install numpy gguf xllamacpp
    VENV/bin/python bench/compare_cpu.py --bench build/wisp-bench --model MODEL.gguf --json FILE

Rows: MobileLLM-125M with random weights in q4_0 and q8_0, written as GGUF for the occasion, and each --model; reply (tg) and prompt
(pp), each number of --threads. The programs take turns in processes of their own, so that what else the machine does meets both;
the ratio is that of the medians, its range that of the single turns.

llama.cpp is the shared object inside xllamacpp, called through its C interface with its defaults (memory-mapped, weights
repacked where it can), the way its own llama-bench does: one warm-up, then the prompt in one call, then token by token.
"""

import argparse
import ctypes
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

WIDTH, HEADS, KV_HEADS, BLOCKS, FFN, VOCABULARY, CONTEXT = 576, 9, 3, 30, 1536, 32000, 2048


# ---- A model file -------------------------------------------------------------------------------------------------------
def write_model(path, kind):
    """MobileLLM-125M with random weights, head shared with the embedding."""
    import gguf
    import numpy as np

    dtype = {"q4_0": gguf.GGMLQuantizationType.Q4_0, "q8_0": gguf.GGMLQuantizationType.Q8_0}[kind]
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(f"mobilellm-125m-random-{kind}")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(BLOCKS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("no_vocab")

    def matrix(name, rows, cols):
        weights = random.standard_normal((rows, cols), dtype=np.float32) * np.float32(0.7 / cols**0.5)
        writer.add_tensor(name, gguf.quants.quantize(weights, dtype), raw_dtype=dtype)

    kv = KV_HEADS * (WIDTH // HEADS)
    matrix("token_embd.weight", VOCABULARY, WIDTH)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for b in range(BLOCKS):
        writer.add_tensor(f"blk.{b}.attn_norm.weight", np.ones(WIDTH, np.float32))
        writer.add_tensor(f"blk.{b}.ffn_norm.weight", np.ones(WIDTH, np.float32))
        for name, rows, cols in (
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", kv, WIDTH),
            ("attn_v", kv, WIDTH),
            ("attn_output", WIDTH, WIDTH),
            ("ffn_gate", FFN, WIDTH),
            ("ffn_up", FFN, WIDTH),
            ("ffn_down", WIDTH, FFN),
        ):
            matrix(f"blk.{b}.{name}.weight", rows, cols)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- llama.cpp ----------------------------------------------------------------------------------------------------------
class Params(ctypes.Structure):
    """Any params struct of the C interface: by the x86-64 and arm64 calling conventions a large struct passed or returned by
    value lies in memory, so a block larger than the struct serves."""

    _fields_ = [("word", ctypes.c_uint32 * 256)]


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32))] + [
        (name, ctypes.c_void_p) for name in ("embd", "pos", "n_seq_id", "seq_id", "logits")
    ]


def run_llamacpp(path, threads, prompt, reply):
    """Tokens per second of one prompt and one reply, after a warm-up."""
    import xllamacpp

    lib = ctypes.CDLL(str(next(pathlib.Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"))))
    pointer, i32 = ctypes.c_void_p, ctypes.c_int32
    for name, result, arguments in (
        ("llama_model_default_params", Params, []),
        ("llama_context_default_params", Params, []),
        ("llama_model_load_from_file", pointer, [ctypes.c_char_p, Params]),
        ("llama_init_from_model", pointer, [pointer, Params]),
        ("llama_set_n_threads", None, [pointer, i32, i32]),
        ("llama_get_memory", pointer, [pointer]),
        ("llama_memory_clear", None, [pointer, ctypes.c_bool]),
        ("llama_batch_get_one", Batch, [ctypes.POINTER(i32), i32]),
        ("llama_decode", i32, [pointer, Batch]),
        ("llama_synchronize", None, [pointer]),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
    params = lib.llama_context_default_params()
    # n_ctx, n_batch, n_ubatch, n_seq_max
    if list(params.word[:4]) != [512, 2048, 512, 1]:
        raise SystemExit("llama_context_params of this llama.cpp has another layout than the one known here")
    params.word[0] = prompt + reply + 64
    context = lib.llama_init_from_model(model, params)
    lib.llama_set_n_threads(context, threads, threads)

    def rate(count, at_once):
        lib.llama_memory_clear(lib.llama_get_memory(context), True)
        ids = (i32 * count)(*((i * 7919 + 5) % VOCABULARY for i in range(count)))
        start = time.perf_counter()
        for i in range(0, count, at_once):
            if lib.llama_decode(context, lib.llama_batch_get_one(ctypes.cast(ctypes.byref(ids, 4 * i), ctypes.POINTER(i32)), at_once)):
                raise SystemExit("llama_decode failed")
        lib.llama_synchronize(context)
        return count / (time.perf_counter() - start)

    rate(prompt, prompt), rate(4, 1)
    return {f"pp{prompt}": rate(prompt, prompt), f"tg{reply}": rate(reply, 1)}


# ---- Turns --------------------------------------------------------------------------------------------------------------
def turn_llamacpp(o, path, threads):
    command = [sys.executable, __file__, "--turn", str(path), "--threads", str(threads), "-p", str(o.prompt), "-n", str(o.reply)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)


def turn_wisp(o, path, threads):
    command = [o.bench, "-m", str(path), "--device", "cpu", "-t", str(threads), "-p", str(o.prompt), "-n", str(o.reply), "-r", "1"]
    out = subprocess.run(command + ["--json", "-"], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return {row["test"]: row["tok_per_s"] for row in json.loads(out)}


def compare(o, name, path, threads):
    """One row for each test."""
    turns = {"wisp": [], "llamacpp": []}
    for _ in range(o.repetitions):
        turns["wisp"].append(turn_wisp(o, path, threads))
        turns["llamacpp"].append(turn_llamacpp(o, path, threads))
    rows = []
    for test in (f"tg{o.reply}", f"pp{o.prompt}"):
        wisp, other = ([turn[test] for turn in turns[who]] for who in ("wisp", "llamacpp"))
        each = [a / b for a, b in zip(wisp, other)]
        row = {"model": name, "threads": threads, "test": test, "wisp": statistics.median(wisp), "llamacpp": statistics.median(other)}
        row["ratio"] = row["wisp"] / row["llamacpp"]
        row |= {"ratio_min": min(each), "ratio_max": max(each), "wisp_runs": wisp, "llamacpp_runs": other}
        print(f"{name:28} {threads} threads {test:6} {row['wisp']:8.1f} {row['llamacpp']:8.1f} tok/s  {row['ratio']:5.2f} x "
              f"({row['ratio_min']:.2f} to {row['ratio_max']:.2f})", flush=True)
        rows.append(row)
    return rows


def processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bench", default="build/wisp-bench", help="default build/wisp-bench")
    parser.add_argument("--model", action="append", default=[], metavar="FILE", help="a GGUF file to compare as well; may be repeated")
    parser.add_argument("--types", default="q4_0,q8_0", help="of the random weights; default q4_0,q8_0")
    parser.add_argument("--threads", default="1,2", help="default 1,2")
    parser.add_argument("-p", dest="prompt", type=int, default=512)
    parser.add_argument("-n", dest="reply", type=int, default=128)
    parser.add_argument("-r", dest="repetitions", type=int, default=5, help="turns of each; default 5")
    parser.add_argument("--json", metavar="FILE", help="write machine, date, command and rows")
    parser.add_argument("--turn", metavar="FILE", help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.turn:
        # llama.cpp's own words go to standard error.
        print(json.dumps(run_llamacpp(o.turn, int(o.threads), o.prompt, o.reply)))
        return
    load = os.getloadavg()[0]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for kind in filter(None, o.types.split(",")):
            files.append((f"mobilellm-125m {kind}", pathlib.Path(folder) / f"{kind}.gguf"))
            write_model(files[-1][1], kind)
        files += [(pathlib.Path(path).stem, path) for path in o.model]
        for name, path in files:
            for threads in map(int, o.threads.split(",")):
                rows += compare(o, name, path, threads)
    report = {
        "machine": f"{processor()}, {os.cpu_count()} processors",
        "date": datetime.date.today().isoformat(),
        "load_before": load,
        "command": "bench/compare_cpu.py " + " ".join(pathlib.Path(a).name if "/" in a else a for a in sys.argv[1:]),
        "llamacpp": f"xllamacpp {importlib.metadata.version('xllamacpp')}",
        "rows": rows,
    }
    if o.json:
        pathlib.Path(o.json).write_text(json.dumps(report, indent=1) + "\n")
    slower = [row for row in rows if row["ratio"] < 1]
    print(f"{len(rows) - len(slower)} of {len(rows)} rows at 1.0 x or more")


if __name__ == "__main__":
    main()
