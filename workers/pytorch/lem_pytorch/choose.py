"""The next token of every row: penalties, bans, sampling. Rank 0 of a replica decides, so that no rounding can make the
ranks part."""
from .wire import Refused, field

SAMPLING = (("temperature", float, 0.0, 0, 100), ("top_k", int, 0, 0, None), ("top_p", float, 1.0, 0, 1),
            ("min_p", float, 0.0, 0, 1), ("repetition_penalty", float, 1.0, 0.01, 100), ("seed", int, 0, 0, None))
# arguments of generate() that are honoured here, beside those that lem has options for
EXTRA_BANS = ("bad_words_ids", "suppress_tokens", "sequence_bias")
EXTRA_DRAWS = ("typical_p", "epsilon_cutoff", "eta_cutoff")
EXTRA = EXTRA_BANS + EXTRA_DRAWS + ("eos_token_id",)


def read_sampling(s):
    return {name: field(s, name, kind, default, low, high) for name, kind, default, low, high in SAMPLING}


class Ngrams:
    """What followed each sequence of n - 1 tokens of a text so far."""

    def __init__(self, n, tokens):
        self.n, self.tokens, self.after = n, [], {}
        for t in tokens:
            self.add(t)

    def key(self):
        return tuple(self.tokens[len(self.tokens) - self.n + 1:])

    def add(self, token):
        if len(self.tokens) >= self.n - 1:
            self.after.setdefault(self.key(), set()).add(token)
        self.tokens.append(token)

    def banned(self):
        return self.after.get(self.key(), ()) if len(self.tokens) >= self.n - 1 else ()

    def copy(self):
        other = Ngrams(self.n, ())
        other.tokens, other.after = list(self.tokens), {k: set(v) for k, v in self.after.items()}
        return other


class Chooser:
    """State of the rows of one batch. A row is a request, or one of its beams."""

    def __init__(self, engine, rows, sampling):
        self.e, self.torch, self.rows, self.s = engine, engine.torch, rows, sampling
        self.vocab, o = engine.n_vocab, engine.o
        self.eos = self.find_eos()
        self.forbid = self.torch.tensor(sorted(self.eos), dtype=self.torch.long, device=engine.device)
        self.ngrams = [Ngrams(o.ngram, r.tokens) for r in rows] if o.ngram else None
        self.seen = None
        if sampling["repetition_penalty"] != 1:
            self.seen = self.torch.zeros((len(rows), self.vocab), dtype=self.torch.bool, device=engine.device)
            for i, r in enumerate(rows):
                self.seen[i, self.torch.tensor(sorted(set(r.tokens)), device=engine.device)] = True
        self.streams = [self.torch.Generator(engine.device).manual_seed((sampling["seed"] * 1000003 + r.id) % (1 << 63))
                        for r in rows] if sampling["temperature"] > 0 else []
        self.bans, self.draws = self.extra_processors()

    def find_eos(self):
        config = self.e.model.generation_config
        eos = self.e.o.extra_generate.get("eos_token_id", config.eos_token_id if config else None)
        return {t for t in (eos if isinstance(eos, list) else [eos]) if t is not None and t < self.vocab}

    def extra_processors(self):
        """Transformers' own processors for what extra_generate asks for."""
        extra = self.e.o.extra_generate
        unknown = [k for k in extra if k not in EXTRA]
        if unknown:
            raise Refused("unsupported", f"extra_generate.{unknown[0]}: this worker does not call generate(); of its further "
                          f"arguments it honours {', '.join(EXTRA)}")
        if any(k in extra for k in EXTRA_DRAWS) and not self.streams:
            raise Refused("unsupported", f"extra_generate.{next(k for k in EXTRA_DRAWS if k in extra)} is about sampling, "
                          "but decoding is greedy")
        lp = self.e.hf.generation.logits_process
        eos = sorted(self.eos) or None
        make = {"bad_words_ids": lambda v: lp.NoBadWordsLogitsProcessor(v, eos),
                "suppress_tokens": lambda v: lp.SuppressTokensLogitsProcessor(v, device=self.e.device),
                "sequence_bias": lambda v: lp.SequenceBiasLogitsProcessor(v),
                "typical_p": lambda v: lp.TypicalLogitsWarper(mass=v),
                "epsilon_cutoff": lambda v: lp.EpsilonLogitsWarper(epsilon=v),
                "eta_cutoff": lambda v: lp.EtaLogitsWarper(epsilon=v, device=self.e.device)}
        try:
            return [[make[k](extra[k]) for k in names if k in extra] for names in (EXTRA_BANS, EXTRA_DRAWS)]
        except (ValueError, TypeError) as e:
            raise Refused("unsupported", f"extra_generate: {e}") from None

    def process(self, logits, rows):
        """Scores of the rows (indices) after everything that is no drawing."""
        torch = self.torch
        logits = logits.float()
        if self.seen is not None:
            p = self.s["repetition_penalty"]
            logits = torch.where(self.seen[rows], torch.where(logits > 0, logits / p, logits * p), logits)
        banned = [(i, t) for i, row in enumerate(rows) for t in (self.ngrams[row].banned() if self.ngrams else ())]
        early = [i for i, row in enumerate(rows) if self.eos and len(self.rows[row].out) < self.rows[row].min_out]
        if banned or early:
            logits = logits.clone()
        if banned:
            at = torch.tensor(banned, device=logits.device)
            logits[at[:, 0], at[:, 1]] = float("-inf")
        if self.bans:
            past = self.past(rows)
            for ban in self.bans:
                logits = ban(past, logits)
        if early:
            logits[torch.tensor(early, device=logits.device)[:, None], self.forbid] = float("-inf")
        return logits

    def past(self, rows):
        """Texts of the rows, filled up on the left with an id that matches nothing."""
        texts = [self.rows[row].tokens + self.rows[row].out for row in rows]
        width = max(len(t) for t in texts)
        return self.torch.tensor([[-1] * (width - len(t)) + t for t in texts], device=self.e.device)

    def __call__(self, logits, rows=None):
        """One token for each of the rows (default all)."""
        rows = list(range(len(self.rows))) if rows is None else rows
        logits = self.process(logits, rows)
        tokens = self.sample(logits, rows) if self.streams else logits.argmax(-1)
        if self.e.o.tp > 1:
            self.torch.distributed.broadcast(tokens, 0)
        return self.note(rows, tokens)

    def note(self, rows, tokens):
        if self.seen is not None:
            self.seen[self.torch.tensor(rows, device=tokens.device), tokens] = True
        if self.ngrams:
            for row, t in zip(rows, tokens.tolist()):
                self.ngrams[row].add(t)
        return tokens

    def sample(self, logits, rows):
        torch, s = self.torch, self.s
        logits = logits / s["temperature"]
        if s["top_k"]:
            kth = logits.topk(min(s["top_k"], logits.shape[-1])).values[:, -1:]
            logits = logits.masked_fill(logits < kth, float("-inf"))
        probs = logits.softmax(-1)
        if s["top_p"] < 1:
            order, at = probs.sort(descending=True)
            cut = order.cumsum(-1) - order >= max(s["top_p"], 1e-9)  # the first is always kept
            probs = probs.masked_fill(torch.zeros_like(cut).scatter(-1, at, cut), 0)
        if s["min_p"]:
            probs = probs.masked_fill(probs < s["min_p"] * probs.max(-1, keepdim=True).values, 0)
        for draw in self.draws:
            probs = draw(None, (probs / probs.sum(-1, keepdim=True)).log()).softmax(-1)
        # the smallest of exponential waiting times is a draw by weight; each row from its own stream
        wait = torch.stack([torch.empty_like(p).exponential_(generator=self.streams[r]) for p, r in zip(probs, rows)])
        return (probs / wait).argmax(-1)
