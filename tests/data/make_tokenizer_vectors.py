#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tokenizer_smollm2.json, tokenizer_spm.gguf and tokenizer_spm.json from tokenizers that share nothing with Wisp's.

    pip install gguf tokenizers sentencepiece xllamacpp
    python3 tests/data/make_tokenizer_vectors.py [MODEL]

MODEL: SmolLM2-135M-Instruct as GGUF (default: ~/.cache/wisp/SmolLM2-135M-Instruct.Q4_1.gguf).

- ids of the default model: llama.cpp (its C interface, in xllamacpp's library), confirmed by Hugging Face tokenizers built from the
  same vocabulary and merges. Where the text is not UTF-8, the latter's of the text with U+FFFD for each such byte, confirmed by
  llama.cpp except where it decodes overlong or surrogate sequences.
- words of each pre-tokenizer: Hugging Face tokenizers with the regular expressions published with the models.
- ids of a SentencePiece vocabulary: a model trained here on a licence text, by sentencepiece itself.
"""
import ctypes
import hashlib
import importlib.metadata
import io
import json
import os
import random
import sys

import gguf
import sentencepiece
import tokenizers
from tokenizers import Regex, pre_tokenizers
from tokenizers.models import BPE

HERE = os.path.dirname(os.path.abspath(__file__))
LICENCE = os.path.join(HERE, "..", "..", "LICENSE")

CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")


PRETOKENIZERS = {
    "gpt-2": split(GPT2),
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), split(GPT2)]),
    "llama-bpe": split(CL100K % "{1,3}"),
    "qwen2": split(CL100K % ""),
}

SENTENCES = [
    "Hello, world!", "The quick brown fox jumps over the lazy dog.", "Où est la bibliothèque ?", "Straße, Äpfel und Öl",
    "El niño comió piña.", "Zażółć gęślą jaźń", "Příliš žluťoučký kůň", "Þetta er íslenska", "İstanbul'da ığdır", "Tiếng Việt rất đẹp",
    "Съешь ещё этих мягких французских булок", "Українська їжа є", "Ελληνικά: ταχίστη αλώπηξ", "Հայերեն լեզու", "ქართული ენა",
    "שלום עולם, מה שלומך?", "עִבְרִית עם נִקּוּד", "مرحبا بالعالم", "اَلْعَرَبِيَّةُ", "فارسی می‌نویسم", "اردو زبان ہے", "ܣܘܪܝܝܐ",
    "हिन्दी में लिखो", "नमस्ते दुनिया क्षत्रिय", "বাংলা ভাষা", "ਪੰਜਾਬੀ", "ગુજરાતી", "ଓଡ଼ିଆ", "தமிழ் மொழி", "తెలుగు భాష", "ಕನ್ನಡ", "മലയാളം", "සිංහල",
    "ภาษาไทยไม่มีวรรค", "ພາສາລາວ", "བོད་སྐད་", "မြန်မာဘာသာ", "ភាសាខ្មែរ", "አማርኛ ፊደል", "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ", "ᐃᓄᒃᑎᑐᑦ", "ᚠᚢᚦᚨᚱᚲ", "ᠮᠣᠩᠭᠣᠯ",
    "我能吞下玻璃而不伤身体。", "繁體中文測試", "日本語のテキスト、カタカナとひらがな。", "ﾊﾝｶｸ ｶﾀｶﾅ", "한국어 문장입니다.", "한글", "𠀀𠀁𪛖", "𐌰𐌱𐌲 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚",
    "ꦗꦮ", "ⵜⴰⵎⴰⵣⵉⵖⵜ", "𞤆𞤵𞤤𞤢𞤪", "𓀀𓁐", "Ⅻ ⅓ ² ³ ½ ① ㊗ ٣ ۴ ५ ๕", "ʰʲˠ ˈfəʊnɛtɪks",
]
EMOJI = [
    "😀", "😀😃😄", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈 🏴‍☠️", "🇩🇪🇫🇷🇯🇵", "1️⃣2️⃣", "❤️‍🔥", "🧑🏿‍🚀 to the 🌕!", "a😀b 😀 c", "🤷🏻‍♀️🤷🏻‍♂️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "♥︎ ♥️", "©®™", "→⇒∀∃∈ℝ∞≠", "√(a²+b²)=c", "░▒▓█ ┌─┐",
]
NUMBERS = [
    "0", "7", "42", "123", "1234", "1234567890", "3.14159", "-1e-9", "1,000,000.50", "0x1F 0b101 0o17", "v1.2.3-rc4", "2024-02-29T12:00:00Z",
    "+49 (0)30 123456", "192.168.0.1", "1st 2nd 3rd", "a1b2c3", "99%", "$5.00 €6,50 £7", " 1", "  1", "   12", "\t3", "\n4", "٠١٢٣٤٥", "१२३", "１２３",
    "½¾", "x²+y³", "1 2  3   4", "10\u00a0000", "Ⅷ ⅷ",
]
SPACES = [
    " ", "  ", "   ", "        ", " " * 31, "\t", "\t\t", "\n", "\n\n", "\n\n\n", "\r\n", "\r\n\r\n", "\r", " \n", "\n ", " \n ", "  \n  \n  ",
    "a b", "a  b", "a   b", " a", "  a", "a ", "a  ", "a\n", "a\n\n", "\na", "\n\na", "a\tb", "a \t b", "a\u00a0b", "a\u00a0\u00a0b", "\u2003em\u2003",
    "\u3000全角\u3000", "\u2028line\u2029para", "a\u200bb", "\ufeffbom", "\u1680ogham\u180e", "\u0085nel", "!\u0085!", "a \u0085 b", "a\x0b\x0cb", "   !", "  \n!", " \r\n\t x",
    "end   ", "end \n", "\n\n  indented\n\n", "x\r\ny\rz\n", " \u00a0 \u3000 x",
]
CONTROLS = ["\0", "a\0b", "\x01\x02\x03", "\x04\x06", "a\x13b\x14c", "\x1b[31mred\x1b[0m", "\x7f", "\x80\x9f", "\u200e\u200f\u202a", "\ue000\uf8ff",
            "\ufffd", "\ufffe\uffff", "\U000e0001", "\U0010ffff", "bell\x07back\x08", "\u00ad", "a\u0000"]
CONTRACTIONS = [
    "I'm you're he's we'll they'd I've don't", "I'M YOU'RE HE'S WE'LL THEY'D I'VE DON'T", "'s 't 're 've 'm 'll 'd", "'S'T'RE'VE'M'LL'D",
    "'sss", "rock'n'roll", "l'été d'hiver", "O'Neill's", "''s", " 's", "' s", "it’s ’tis", "'", "''", "'a", "'r", "'l l", "y'all'd've", "a'b'c", "'re're",
    "x'Re", "7's", "!'s", "\n's", "'\n",
]
CODE = [
    "int main(void) { return 0; }", "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}\n", "def f(x):\n    return x ** 2  # square\n",
    "#include <stdio.h>\n\n\n", "if(a&&b||!c){d=e->f::g;}", "SELECT * FROM t WHERE a='b' -- c", "<html lang=\"en\">\n  <body/>\n</html>",
    "{\"k\": [1, 2.5, null], \"s\": \"\\u00e9\\n\"}", "let s = `a${b}c`;", "$ ls -la | grep '^d' > /dev/null 2>&1", "\\frac{a}{b} \\alpha_{i}",
    "a=b;c+=d;e!=f", "camelCaseName snake_case_name SCREAMING_CASE kebab-case", "/usr/share/doc/../bin", "C:\\Windows\\System32", "f(g(h(x)))",
    "// ------------------------", "/* ******** */", "=======", "....", "...!?!?", "-->", "<-", "fn<'a>(x: &'a str)", "@decorator\nclass A(B): pass",
    "x = 0xDEADBEEF;;", "[[1,2],[3,4]]", "~~~~`````", "\"quoted\" 'single' “curly” «guillemets»", "a\\nb", "%d%s%%", "_", "__init__", "a_1_b",
]
URLS = [
    "https://example.org/path?q=a+b&r=%20#frag", "http://user:pw@host:8080/", "mailto:someone@example.com", "www.example.co.uk", "ftp://x/y.tar.gz",
    "user.name+tag@sub.domain.org", "data:text/plain;base64,SGVsbG8=", "git@github.com:a/b.git", "urn:isbn:0451450523",
]
MARKS = [
    "e\u0301", "n\u0303o", "a\u0300\u0301\u0302b", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢", "\u0301start", " \u0301x", "क\u093f", "1\u0301", "\u20ddx", "ﬁ ﬂ ﬀ",
    "ⓐⓑ", "Å vs Å", "ǆ ǅ Ǆ", "ß ẞ ı İ", "ªº", "ː", "\u0e01\u0e33",
]
LONG = [
    "a" * 300, "ab" * 200, "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft", "\u4e2d" * 100, "=" * 200, "!" * 97,
    "😀" * 40, "\n" * 50, "0123456789" * 12, "pneumonoultramicroscopicsilicovolcanoconiosis " * 3, "xyzzy" * 60, "ACGT" * 80, " a" * 100,
    "\u0e01" * 70, "Aa1!" * 40, "the" * 100, "    " * 40 + "x",
]
SPECIALS = [
    "<|im_start|>user\nHi<|im_end|>\n", "<|im_start|>", "<|im_start|><|im_start|>", "a<|endoftext|>b", " <|im_end|> ", "<|im_start", "<<|im_end|>>",
    "<reponame>x<file_sep>y", "<|im_end|>\n\n<|im_start|>assistant\n", "<|IM_START|>", "<empty_output><jupyter_code>1", "x<|im_end|>'s",
]
INVALID = [
    b"\xff", b"\x80", b"a\xffb", b"\xc3(", b"\xe2\x82", b"\xe2\x82 x", b"\xf0\x9f\x98", b"\xf0\x9f\x98a", b"\xed\xa0\x80", b"\xc0\xaf", b"\xc1\xbf",
    b"\xe0\x80\xaf", b"\xf8\x88\x80\x80\x80", b"\xfe\xfe\xff\xff", b"caf\xe9 au lait", b"\xa0\xa1", b"Stra\xdfe", b"\xe4\xf6\xfc", b"ok \xf0\x9f\x98\x80 \xf0\x9f",
    b"\x80\x81\x82\x83\x84", b" \xbf \xbf", b"\xef\xbb", b"1\xb22", b"\n\xc2\n", b"\xc2\xa0\xc2", b"\xe3\x81\x82\xe3\x81", b"'\xb7s", b"\xd8\x00\xdc\x00",
]


def random_texts(count):
    rng = random.Random(20240229)
    ranges = [(0x20, 0x7E)] * 6 + [(0xA0, 0x24F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF), (0x2000, 0x2BFF), (0x3040, 0x30FF),
                                 (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF), (0x9, 0xD), (0x30, 0x39)]
    for _ in range(count):
        yield "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 40)))


def case_texts():
    """(bytes, flags) of all cases; flags as WISP_TOKENIZE_*."""
    plain = [""] + SENTENCES + EMOJI + NUMBERS + SPACES + CONTROLS + CONTRACTIONS + CODE + URLS + MARKS + LONG + SPECIALS + list(random_texts(40))
    cases = [(text.encode(), 0) for text in plain] + [(text, 0) for text in INVALID] + [(text.encode(), 1) for text in SPECIALS]
    assert len(set(cases)) == len(cases), "a text twice"
    return cases


def valid(text):
    try:
        text.decode()
        return True
    except UnicodeDecodeError:
        return False


# ---- llama.cpp ----

class LlamaCpp:
    """Tokenizer of a model file, by llama.h's functions."""

    class Params(ctypes.Structure):  # llama_model_params, only ever passed through
        _fields_ = [("opaque", ctypes.c_ubyte * 1024)]

    def __init__(self, path):
        import xllamacpp.xllamacpp
        lib = self.lib = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
        self.log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, user: None)
        lib.llama_log_set(self.log, None)
        lib.llama_model_default_params.restype = self.Params
        lib.llama_model_load_from_file.restype = ctypes.c_void_p
        lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, self.Params]
        lib.llama_model_get_vocab.restype = ctypes.c_void_p
        lib.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
        lib.llama_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_bool, ctypes.c_bool]
        lib.llama_vocab_is_eog.argtypes = [ctypes.c_void_p, ctypes.c_int]
        lib.llama_vocab_is_eog.restype = ctypes.c_bool
        model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
        assert model, path
        self.vocab = lib.llama_model_get_vocab(model)

    def encode(self, text, special):
        ids = (ctypes.c_int * (3 * len(text) + 8))()
        count = self.lib.llama_tokenize(self.vocab, text, len(text), ids, len(ids), False, special)
        assert count >= 0
        return list(ids[:count])

    def ends(self, count):
        return [i for i in range(count) if self.lib.llama_vocab_is_eog(self.vocab, i)]


# ---- Byte-level BPE, the slow way ----

def byte_characters():
    """byte -> the character that stands for it in GPT-2 vocabularies."""
    table, beyond = {}, 256
    for byte in range(256):
        printable = 0x21 <= byte <= 0x7E or (byte >= 0xA1 and byte != 0xAD)
        table[byte] = chr(byte if printable else beyond)
        beyond += not printable
    return table


class PlainBpe:
    PLACE = 0xF0000  # private use: stands for a byte that is not UTF-8 while words are cut

    def __init__(self, vocabulary, merges, words):
        self.ids, self.ranks, self.words, self.characters = vocabulary, {pair: i for i, pair in enumerate(merges)}, words, byte_characters()

    def word(self, word):
        data = b""
        for c in word:
            byte = ord(c) - self.PLACE
            if not 0 <= byte < 256:
                data += c.encode()
            elif self.characters[byte] in self.ids:
                data += bytes([byte])
            else:
                data += "\ufffd".encode()
        symbols = [self.characters[b] for b in data]
        while True:
            ranks = [self.ranks.get(pair, len(self.ranks)) for pair in zip(symbols, symbols[1:])]
            if not ranks or min(ranks) == len(self.ranks):
                return [self.ids[s] for s in symbols if s in self.ids]
            at = ranks.index(min(ranks))
            symbols[at:at + 2] = [symbols[at] + symbols[at + 1]]

    def encode(self, text):
        marked = "".join(chr(self.PLACE + ord(c) - 0xDC00) if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text.decode("utf-8", "surrogateescape"))
        return [i for word, _ in self.words.pre_tokenize_str(marked) for i in self.word(word)]


# ---- Files ----

def named(text):
    """The text as JSON can carry it; NUL would end a C string."""
    if valid(text) and b"\0" not in text:
        return {"text": text.decode()}
    return {"hex": text.hex()}


def save(name, head, cases):
    path = os.path.join(HERE, name)
    lines = ",\n".join("  " + json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    head = json.dumps(head, ensure_ascii=False, indent=1)
    with open(path, "w") as file:
        file.write(f'{head[:-2]},\n "cases": [\n{lines}\n ]\n}}\n')
    print(f"{name}: {len(cases)} cases, {os.path.getsize(path)} bytes")


def versions(*packages):
    return {package: importlib.metadata.version(package) for package in packages}


def mend(text):
    """Each byte that is not UTF-8 as U+FFFD; False beside it where llama.cpp decodes an overlong or surrogate sequence instead."""
    out, strict, i = "", True, 0
    while i < len(text):
        for size in (1, 2, 3, 4):
            try:
                out += text[i:i + size].decode()
                i += size
                break
            except UnicodeDecodeError:
                pass
        else:
            strict = strict and text[i] not in (0xC0, 0xC1, 0xE0, 0xED, 0xF0)
            out += "\ufffd"
            i += 1
    return out, strict


def smollm2(path):
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    types = fields["tokenizer.ggml.token_type"].contents()
    vocabulary = {token: i for i, token in enumerate(tokens)}

    llama = LlamaCpp(path)
    huggingface = tokenizers.Tokenizer(BPE(vocabulary, merges))
    huggingface.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    special = tokenizers.Tokenizer(BPE(vocabulary, merges))
    special.pre_tokenizer = huggingface.pre_tokenizer
    special.add_special_tokens([tokens[i] for i in range(len(tokens)) if types[i] == 3])
    plain = PlainBpe(vocabulary, merges, PRETOKENIZERS["smollm"])

    cases = []
    for text, flags in case_texts():
        case = named(text) | ({"special": True} if flags else {})
        other = llama.encode(text, bool(flags))
        if valid(text):
            case["ids"] = other
            second = (special if flags else huggingface).encode(text.decode(), add_special_tokens=False).ids
            assert second == other, (text, other, second)
            assert flags or plain.encode(text) == other, (text, other, plain.encode(text))
        else:
            mended, strict = mend(text)
            case["ids"] = (special if flags else huggingface).encode(mended, add_special_tokens=False).ids
            case["utf8"] = False
            assert not strict or case["ids"] == other, (text, other, case["ids"])
        if valid(text) and not flags:
            case["words"] = {}
            for name, words in PRETOKENIZERS.items():
                case["words"][name] = [len(word.encode()) for word, _ in words.pre_tokenize_str(text.decode())]
                assert sum(case["words"][name]) == len(text)
        cases.append(case)
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    head = {"made_by": versions("xllamacpp", "tokenizers", "gguf"), "model": os.path.basename(path), "sha256": digest,
            "vocabulary": len(tokens), "ends": llama.ends(len(tokens))}
    save("tokenizer_smollm2.json", head, cases)


def spm():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        input=LICENCE, model_writer=model, model_type="bpe", vocab_size=700, byte_fallback=True, character_coverage=1.0,
        normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True,
        minloglevel=2)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    count = processor.get_piece_size()
    types = [2 if processor.is_unknown(i) else 3 if processor.is_control(i) else 6 if processor.is_byte(i) else 1 for i in range(count)]

    writer = gguf.GGUFWriter(os.path.join(HERE, "tokenizer_spm.gguf"), "llama")
    writer.add_name("SentencePiece vocabulary for tests, trained on the text of the Apache licence")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([processor.id_to_piece(i) for i in range(count)])
    writer.add_token_scores([processor.get_score(i) for i in range(count)])
    writer.add_token_types(types)
    writer.add_bos_token_id(processor.bos_id())
    writer.add_eos_token_id(processor.eos_id())
    writer.add_unk_token_id(processor.unk_id())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()

    cases = [named(text) | {"ids": processor.encode(text.decode())} for text, flags in case_texts() if valid(text) and not flags]
    save("tokenizer_spm.json", {"made_by": versions("sentencepiece", "gguf"), "vocabulary": count}, cases)


if __name__ == "__main__":
    smollm2(os.path.expanduser(sys.argv[1] if len(sys.argv) > 1 else "~/.cache/wisp/SmolLM2-135M-Instruct.Q4_1.gguf"))
    spm()
