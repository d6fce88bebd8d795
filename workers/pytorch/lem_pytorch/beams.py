"""Beam search, as generate() of Transformers does it: 2 × num_beams candidates a step or more, finished texts scored by
sum of log probabilities / length ** length_penalty. Which text wins is known when the search of the batch ends, so that is
when all of its tokens come out, with one stamp; the steps before give none."""
import time

from .choose import Chooser
from .decode import Lane


NEVER = -1e9  # score of the beams that start as copies of the first
OUT_OF_THE_RUNNING = NEVER / 10


class Beam:
    """One row: a text that may still win."""

    def __init__(self, request, score):
        self.id, self.tokens, self.min_out = request.id, request.tokens, request.min_out
        self.out, self.score = [], score

    def grown(self, token, score):
        b = Beam(self, score)
        b.out = self.out + [token]
        return b


class Search:
    """The beams of one request and the texts that have come to their end."""

    def __init__(self, request, o):
        self.r, self.o, self.done, self.open = request, o, [], True
        self.beams = [Beam(request, 0.0 if i == 0 else NEVER) for i in range(o.beams)]

    def final(self, score, length):
        return score / length ** self.o.length_penalty

    def finish(self, score, out, how):
        if score < OUT_OF_THE_RUNNING:
            return
        self.done.append((self.final(score, len(out)), out, how))
        self.done = sorted(self.done, key=lambda d: -d[0])[:self.o.beams]  # stable: the first of equals stays first

    def step(self, candidates, eos):
        """candidates: (score, beam, token), the best first. Returns (beam, token) of the beams that go on."""
        going, length = [], len(self.beams[0].out) + 1
        for rank, (score, i, token) in enumerate(candidates):
            if token in eos:
                if rank < self.o.beams:
                    self.finish(score, self.beams[i].out + [token], "eos")
            elif len(going) < self.o.beams:
                going.append((score, i, token))
        if length == self.r.max_out:
            for score, i, token in going:
                self.finish(score, self.beams[i].out + [token], "length")
        if length == self.r.max_out or not going or self.settled(going[0][0], length):
            self.open = False
            return []
        self.beams = [self.beams[i].grown(token, score) for score, i, token in going]
        return [(i, token) for _, i, token in going]

    def settled(self, best, length):
        """No beam can still beat what is finished."""
        if len(self.done) < self.o.beams:
            return False
        return self.o.early_stopping or self.final(best, length) <= self.done[-1][0]


def search(decoder, requests):
    e, torch, o = decoder.e, decoder.torch, decoder.e.o
    k, start = o.beams, time.monotonic_ns()
    searches = [Search(r, o) for r in requests]
    rows = [b for s in searches for b in s.beams]
    ids, mask = decoder.padded(requests)
    choose = Chooser(e, rows, decoder.sampling)
    lane = Lane(e, e.model, mask.repeat_interleave(k, 0), ids.shape[1] + max(r.max_out for r in requests))
    prefill, started = sum(len(r.tokens) for r in requests), [r.id for r in requests]
    kept = max(2, 1 + len(choose.eos)) * k  # enough that k go on even when the best end
    logits = lane.feed(ids.repeat_interleave(k, 0), first=True)
    while True:
        scores = choose.process(logits[:, -1].log_softmax(-1).float(), list(range(len(rows))))
        total = scores + torch.tensor([[b.score] for b in rows], device=scores.device)
        best = total.view(len(requests), -1).topk(min(kept, k * e.n_vocab))
        if o.tp > 1:
            for part in (best.values, best.indices):
                torch.distributed.broadcast(part, 0)
        origin, tokens = list(range(len(rows))), [0] * len(rows)  # of a search that has ended: anything
        for n, (s, at, values) in enumerate(zip(searches, best.indices.tolist(), best.values.tolist())):
            if not s.open:
                continue
            go = s.step([(v, c // e.n_vocab, c % e.n_vocab) for c, v in zip(at, values)], choose.eos)
            for j, (i, token) in enumerate(go):
                origin[n * k + j], tokens[n * k + j] = n * k + i, token
        last = not any(s.open for s in searches)
        out = deliver(searches) if last else []
        decoder.report(start, decoder.end_of_step(), prefill, out, started)
        if last:
            return
        start, prefill, started = time.monotonic_ns(), 0, None
        rows = reorder(searches, choose, origin, tokens)
        index = torch.tensor(origin, device=e.device)
        reorder_lane(lane, index)
        logits = lane.feed(torch.tensor(tokens, device=e.device)[:, None])


def deliver(searches):
    """The best text of each request becomes its output."""
    for s in searches:
        _, s.r.out, s.r.finish = s.done[0]
    return [s.r.id for s in searches for _ in s.r.out]


def reorder(searches, choose, origin, tokens):
    """What is known of each row follows the beam that it now is."""
    choose.rows = [b for s in searches for b in s.beams]
    if choose.ngrams:
        choose.ngrams = [choose.ngrams[i].copy() for i in origin]
        for n, t in zip(choose.ngrams, tokens):
            n.add(t)
    if choose.seen is not None:
        choose.seen = choose.seen[origin]
        choose.seen[list(range(len(tokens))), tokens] = True
    return choose.rows


def reorder_lane(lane, index):
    if lane.cache is not None:
        lane.cache.reorder_cache(index)
    if lane.read is not None:
        lane.read = tuple(part[index] for part in lane.read)
