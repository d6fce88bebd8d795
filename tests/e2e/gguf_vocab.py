"""Reads the vocabulary of a GGUF file and tokenizes with it, independently of llama.cpp.

Format: ggml-org/ggml, docs/gguf.md. Tokenizer "llama": SentencePiece's BPE, which starts from single
characters and keeps joining the neighbours whose union has the highest score, leftmost first.
"""
import mmap
import struct

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def scalar(self, fmt):
        v = struct.unpack_from(fmt, self.data, self.at)[0]
        self.at += struct.calcsize(fmt)
        return v

    def string(self):
        n = self.scalar("<Q")
        self.at += n
        return self.data[self.at - n:self.at]

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self.scalar(SCALARS[kind])
        kind, n = self.scalar("<I"), self.scalar("<Q")
        return [self.value(kind) for _ in range(n)]


def metadata(path):
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert data[:4] == b"GGUF"
        r = Reader(data)
        r.at = 16
        n = r.scalar("<Q")
        pairs = {}
        for _ in range(n):
            key = r.string().decode()
            pairs[key] = r.value(r.scalar("<I"))
        return pairs


class Tokenizer:
    def __init__(self, path):
        meta = metadata(path)
        assert meta["tokenizer.ggml.model"] == b"llama"
        tokens = [t.decode(errors="replace") for t in meta["tokenizer.ggml.tokens"]]
        self.ids = {t: i for i, t in enumerate(tokens)}
        self.scores = meta["tokenizer.ggml.scores"]
        self.bos = [meta["tokenizer.ggml.bos_token_id"]] if meta.get("tokenizer.ggml.add_bos_token", True) else []
        self.prefix = "\u2581" if meta.get("tokenizer.ggml.add_space_prefix", True) else ""

    def __call__(self, text):
        parts = list(self.prefix + text.replace(" ", "\u2581"))
        while True:
            pairs = [(self.scores[self.ids[a + b]], -i) for i, (a, b) in enumerate(zip(parts, parts[1:]))
                     if a + b in self.ids]
            if not pairs:
                break
            i = -max(pairs)[1]
            parts[i:i + 2] = [parts[i] + parts[i + 1]]
        ids = list(self.bos)
        for p in parts:
            ids += [self.ids[p]] if p in self.ids else [self.ids["<0x%02X>" % b] for b in p.encode()]
        return ids
