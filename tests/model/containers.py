# SPDX-License-Identifier: Apache-2.0
"""Writes weights as safetensors and as torch.save do, without either package: {name: float32 array} and a dtype."""

import collections
import io
import json
import pickle
import struct
import sys
import types
import zipfile

import numpy as np

DTYPES = {"F32": ("FloatStorage", 4), "F16": ("HalfStorage", 2), "BF16": ("BFloat16Storage", 2)}


def encode(array, dtype):
    """Bytes as stored."""
    array = np.ascontiguousarray(array, np.float32)
    if dtype == "F32":
        return array.astype("<f4").tobytes()
    if dtype == "F16":
        return array.astype("<f2").tobytes()
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def rounded(array, dtype):
    """What comes back of it, in float32."""
    raw = encode(array, dtype)
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(np.shape(array))
    return np.frombuffer(raw, "<f4" if dtype == "F32" else "<f2").astype(np.float32).reshape(np.shape(array))


def write_safetensors(path, weights, dtype):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in weights.items():
        raw = encode(array, dtype)
        header[name] = {"dtype": dtype, "shape": list(np.shape(array)), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


# ---- torch.save: a pickle of tensors that names torch's functions, and the storages beside it in a zip archive ----


def _fake_torch():
    """Modules whose members pickle by the names that torch's have."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def rebuild(*_):
        raise NotImplementedError

    rebuild.__name__ = rebuild.__qualname__ = "_rebuild_tensor_v2"
    rebuild.__module__ = "torch._utils"
    utils._rebuild_tensor_v2 = rebuild
    torch._utils = utils
    for storage, _ in DTYPES.values():
        setattr(torch, storage, type(storage, (), {"__module__": "torch"}))
    return {"torch": torch, "torch._utils": utils}


class _Storage:
    def __init__(self, kind, key, count):
        self.kind, self.key, self.count = kind, key, count


class _Tensor:
    def __init__(self, rebuild, storage, shape):
        self.rebuild, self.storage, self.shape = rebuild, storage, shape

    def __reduce__(self):
        strides = tuple(int(np.prod(self.shape[i + 1 :])) for i in range(len(self.shape)))
        return self.rebuild, (self.storage, 0, tuple(self.shape), strides, False, collections.OrderedDict())


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return ("storage", obj.kind, obj.key, "cpu", obj.count) if isinstance(obj, _Storage) else None


def write_torch(path, weights, dtype, folder="archive"):
    modules = _fake_torch()
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        kind = getattr(modules["torch"], DTYPES[dtype][0])
        state = collections.OrderedDict()
        state._metadata = collections.OrderedDict([("", {"version": 1})])
        for key, (name, array) in enumerate(weights.items()):
            storage = _Storage(kind, str(key), int(np.size(array)))
            state[name] = _Tensor(modules["torch._utils"]._rebuild_tensor_v2, storage, [int(n) for n in np.shape(array)])
        buffer = io.BytesIO()
        _Pickler(buffer, protocol=2).dump(state)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

        def put(name, data):
            archive.writestr(zipfile.ZipInfo(f"{folder}/{name}"), data)  # a fixed date: the same bytes every time

        put("data.pkl", buffer.getvalue())
        put("byteorder", b"little")
        for key, array in enumerate(weights.values()):
            put(f"data/{key}", encode(array, dtype))
        put("version", b"3\n")
