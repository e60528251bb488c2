#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long a process takes from its start to its first token: cold (nothing cached) and warm (Wisp's cache filled).

    build/wisp convert --synthetic mobilellm-125m --type q4_0 -o 125m.gguf
    bench/start_up.py --wisp build/wisp --model 125m.gguf --device vulkan --json FILE

Each repetition is two processes of `wisp run -n 1`: the first finds an empty cache folder, the second what the first left. The
driver's own shader caches are off (NVIDIA, Mesa), the model file is in the page cache, as after its download. A process's time is
taken from before it is started until its answer comes, right behind the first token; the driver's share is the creation of instance
and device, listing devices included, as the process measured it. Medians; the steps are those of the median process.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time


def start(arguments, cache):
    environment = dict(os.environ, XDG_CACHE_HOME=cache, __GL_SHADER_DISK_CACHE="0", MESA_SHADER_CACHE_DISABLE="true")
    command = [arguments.wisp, "run", "-m", arguments.model, "--device", arguments.device, "--raw", "-p", arguments.prompt, "-n", "1"]
    begin = time.monotonic()
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, env=environment)
    first = process.stdout.read(1)
    answered = time.monotonic()
    rest, said = process.communicate()
    ended = time.monotonic()
    if process.returncode:
        raise SystemExit(said.decode().strip())
    answer = json.loads(first + rest)
    timings = answer["timings"]
    whole = 1e3 * (answered - begin)
    return {
        "process_ms": whole,
        "driver_ms": timings["driver_ms"],
        "beyond_driver_ms": whole - timings["driver_ms"],
        "load_ms": timings["load_ms"],
        "init_ms": timings["init_ms"],
        "first_token_ms": timings["first_token_ms"],
        "exit_ms": 1e3 * (ended - answered),
        "pipelines_built": answer["pipelines_built"],
        "peak_device_bytes": answer["peak_device_bytes"],
        "peak_rss_bytes": answer["peak_rss_bytes"],
        "device": answer["device"],
        "start_up": answer["start_up"],
    }


def summary(name, runs):
    middle = sorted(runs, key=lambda run: run["beyond_driver_ms"])[len(runs) // 2]
    row = {"start": name, "runs": len(runs)}
    for key, value in middle.items():
        row[key] = statistics.median(run[key] for run in runs) if isinstance(value, float) else value
    row["beyond_driver_ms_all"] = [round(run["beyond_driver_ms"], 1) for run in runs]
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wisp", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="vulkan")
    parser.add_argument("--prompt", default="The capital of France is")
    parser.add_argument("-r", "--repetitions", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    runs = {"cold": [], "warm": []}
    with open(arguments.model, "rb") as file:
        while file.read(1 << 20):
            pass
    for _ in range(arguments.repetitions):
        with tempfile.TemporaryDirectory() as cache:
            for name in runs:
                runs[name].append(start(arguments, cache))
    rows = [summary(name, runs[name]) for name in runs]
    for row in rows:
        print(f"{row['start']}: {row['process_ms']:.0f} ms to the first token, {row['driver_ms']:.0f} of it the driver's, "
              f"{row['beyond_driver_ms']:.0f} beyond ({', '.join(f'{ms:.0f}' for ms in row['beyond_driver_ms_all'])}); "
              f"load {row['load_ms']:.1f}, init {row['init_ms']:.1f}, first token {row['first_token_ms']:.1f} ms; "
              f"{row['pipelines_built']} pipelines compiled; exit {row['exit_ms']:.0f} ms; {row['device']}")
        for step in row["start_up"]:
            print(f"  {step['name']:24} from {step['begin_ms']:8.2f} ms on: {step['ms']:8.2f} ms")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
