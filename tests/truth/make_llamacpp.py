# SPDX-License-Identifier: Apache-2.0
"""Makes prompts.json and llamacpp.json: what llama.cpp computes for the default model on a CPU.

The PyPI package xllamacpp carries llama.cpp as a shared object that exports llama.cpp's C interface; that interface is called
here through ctypes, because the package's own server interface gives neither raw logits nor the log-probabilities of a prompt.
Greedy ids are compared with that server's as a second way to the same numbers.

llama.cpp rounds activations to 8 bits before it multiplies them with quantised weights. So the prompts are run a second time
on a copy of the model whose weights are dequantised to float32, with a float32 KV cache and without flash attention, which
rounds to float16: there it computes in float32 throughout.
"""

import ctypes
import hashlib
import importlib.metadata
import pathlib
import tempfile

import gguf
import numpy as np
import xllamacpp

import vectors
from prompts import PROMPTS, chatml

N_PREDICT, N_THREADS, N_CTX = 64, 1, 1024
KEEP_TOP = 3  # logits kept of each generated position


class Params(ctypes.Structure):
    """Any params struct of the C interface. By the x86-64 calling convention a large struct returned or passed by value lies in
    memory, so a block larger than the struct serves; only the leading fields of llama_context_params are set here."""

    _fields_ = [("word", ctypes.c_uint32 * 256)]


class Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.POINTER(ctypes.c_float)),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


def load_library():
    lib = ctypes.CDLL(str(next(pathlib.Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"))))
    pointer, i32, text = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p
    signatures = {
        "llama_model_default_params": (Params, []),
        "llama_context_default_params": (Params, []),
        "llama_model_load_from_file": (pointer, [text, Params]),
        "llama_model_get_vocab": (pointer, [pointer]),
        "llama_init_from_model": (pointer, [pointer, Params]),
        "llama_set_n_threads": (None, [pointer, i32, i32]),
        "llama_get_memory": (pointer, [pointer]),
        "llama_memory_clear": (None, [pointer, ctypes.c_bool]),
        "llama_vocab_n_tokens": (i32, [pointer]),
        "llama_vocab_is_eog": (ctypes.c_bool, [pointer, i32]),
        "llama_tokenize": (i32, [pointer, text, i32, ctypes.POINTER(i32), i32, ctypes.c_bool, ctypes.c_bool]),
        "llama_batch_init": (Batch, [i32, i32, i32]),
        "llama_decode": (i32, [pointer, Batch]),
        "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), [pointer, i32]),
        "llama_print_system_info": (text, []),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


class Engine:
    """llama.cpp on one sequence: with its defaults (float16 KV cache, flash attention), or in float32 throughout."""

    def __init__(self, path, float32=False):
        self.lib = load_library()
        self.model = self.lib.llama_model_load_from_file(str(path).encode(), self.lib.llama_model_default_params())
        self.vocab = self.lib.llama_model_get_vocab(self.model)
        self.n_vocab = self.lib.llama_vocab_n_tokens(self.vocab)
        params = self.lib.llama_context_default_params()
        # n_ctx, n_batch, n_ubatch, n_seq_max; flash_attn_type = auto; type_k, type_v = F16
        if list(params.word[:4]) + [params.word[13]] + list(params.word[26:28]) != [512, 2048, 512, 1, 0xFFFFFFFF, 1, 1]:
            raise SystemExit("llama_context_params of this llama.cpp has another layout than the one known here")
        params.word[0] = N_CTX
        if float32:
            params.word[13] = 0
            params.word[26:28] = [0, 0]
        self.context = self.lib.llama_init_from_model(self.model, params)
        self.lib.llama_set_n_threads(self.context, N_THREADS, N_THREADS)
        self.batch = self.lib.llama_batch_init(N_CTX, 0, 1)
        self.n_past = 0

    def end_ids(self):
        return [i for i in range(self.n_vocab) if self.lib.llama_vocab_is_eog(self.vocab, i)]

    def tokenize(self, text, parse_special):
        raw = text.encode()
        out = (ctypes.c_int32 * (len(raw) + 8))()
        n = self.lib.llama_tokenize(self.vocab, raw, len(raw), out, len(out), False, parse_special)
        return list(out[:n])

    def clear(self):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
        self.n_past = 0

    def decode(self, ids, all_positions=False):
        """Appends ids; returns [len(ids), vocab] logits, or the last position's [vocab]."""
        self.batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            self.batch.token[i] = token
            self.batch.pos[i] = self.n_past + i
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = 0
            self.batch.logits[i] = all_positions or i == len(ids) - 1
        status = self.lib.llama_decode(self.context, self.batch)
        if status != 0:
            raise SystemExit(f"llama_decode failed with {status}")
        self.n_past += len(ids)
        wanted = range(len(ids)) if all_positions else [len(ids) - 1]
        rows = [np.ctypeslib.as_array(self.lib.llama_get_logits_ith(self.context, i), (self.n_vocab,)).copy() for i in wanted]
        return np.stack(rows) if all_positions else rows[0]


def write_float32(source, target):
    """A copy of a GGUF file with every tensor dequantised to float32."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.get_field("general.architecture").contents())
    written = ("GGUF.", "general.architecture", "general.file_type")
    for field in reader.fields.values():
        if not field.name.startswith(written):
            subtype = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), field.types[0], subtype)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def greedy(engine, prompt_ids, end_ids, n_top, n_even):
    """N_PREDICT ids of highest logit, or those before an end token; n_top and n_even: how many of the prompt's last logits."""
    engine.clear()
    logits = engine.decode(prompt_ids)
    result = {"ids": [], "end_id": None, "top_ids": [], "top_logits": [], "logits": vectors.pack_logits(logits, n_top, n_even)}
    for _ in range(N_PREDICT):
        top = np.argsort(-logits, kind="stable")[:KEEP_TOP]
        result["top_ids"].append(top.tolist())
        result["top_logits"].append([round(float(x), 4) for x in logits[top]])
        if int(top[0]) in end_ids:
            result["end_id"] = int(top[0])
            break
        result["ids"].append(int(top[0]))
        logits = engine.decode([int(top[0])])
    return result


def server_ids(server, prompt_ids):
    """The same greedy ids through the server that the package wraps."""
    answer = server.handle_completions(
        {
            "prompt": prompt_ids,
            "n_predict": N_PREDICT,
            "temperature": 0,
            "repeat_penalty": 1.0,
            "seed": 1,
            "cache_prompt": False,
            "return_tokens": True,
            "verbose": True,
        }
    )
    return answer["__verbose"]["tokens"]


def main():
    path = vectors.model_path()
    engine = Engine(path)
    end_ids = engine.end_ids()

    prompts, results = [], {}
    for name, kind, chat, text in PROMPTS:
        formatted = chatml(text) if chat else text
        ids = engine.tokenize(formatted, parse_special=chat)
        prompts.append({"id": name, "kind": kind, "chat": chat, "text": text, "formatted": formatted, "ids": ids})
        results[name] = greedy(engine, ids, end_ids, 256, 256)
        print(f"{name}: {len(ids)} + {len(results[name]['ids'])} ids, end {results[name]['end_id']}", flush=True)

    text = (vectors.HERE / "text.txt").read_bytes()
    ids = engine.tokenize(text.decode(), parse_special=False)
    nll = []
    for window in vectors.windows(ids):
        engine.clear()
        rows = engine.decode(window, all_positions=True)[vectors.FIRST_SCORED - 1 : -1]
        nll.append(vectors.window_nll(rows, window))
    perplexity = {"text_sha256": hashlib.sha256(text).hexdigest(), "tokens": len(ids), **vectors.perplexity(nll), "ids": ids}
    print("perplexity", perplexity["ppl"], "+-", perplexity["standard_error"], "tokens", len(ids), flush=True)

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = N_CTX
    params.n_parallel = 1
    params.cpuparams.n_threads = N_THREADS
    server = xllamacpp.Server(params)
    differ = []
    for prompt in prompts:
        expected = results[prompt["id"]]
        ids = server_ids(server, prompt["ids"])
        if ids and ids[-1] in end_ids:
            ids = ids[:-1]
        if ids != expected["ids"]:
            differ.append(prompt["id"])
            print("server differs:", prompt["id"], ids, expected["ids"])

    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "float32.gguf"
        write_float32(path, copy)
        exact = Engine(copy, float32=True)
        for prompt in prompts:
            results[prompt["id"]]["float32"] = greedy(exact, prompt["ids"], end_ids, 64, 256)
    same = sum(r["float32"]["ids"] == r["ids"] for r in results.values())
    print(f"float32 weights: {same} of {len(results)} prompts have the same greedy ids as the quantised ones")

    about = {
        "engine": "llama.cpp, built for the CPU",
        "packages": [f"{p} {importlib.metadata.version(p)}" for p in ("xllamacpp", "gguf")],
        "system": engine.lib.llama_print_system_info().decode().strip(),
        "threads": N_THREADS,
        "kv_cache": "f16",
        "flash_attention": True,
        "model": vectors.MODEL_NAME,
        "model_sha256": vectors.MODEL_SHA256,
        "end_ids": end_ids,
        "n_predict": N_PREDICT,
        "server_differs_on": differ,
    }
    vectors.write_json("prompts.json", {"model_sha256": vectors.MODEL_SHA256, "prompts": prompts})
    vectors.write_json("llamacpp.json", {"about": about, "perplexity": perplexity, "prompts": results})


if __name__ == "__main__":
    main()
