"""The loops that compute a batch: plain, with an assistant, with beams. Rows that have ended are computed on, as batches
of Transformers are, but neither they nor padding count."""
import time

from .choose import Chooser
from .wire import Refused


def last_logits(model, n):
    """The logits of the last n positions alone, where the model can: those before are never used."""
    code = type(model).forward
    names = getattr(code, "__wrapped__", code).__code__.co_varnames
    return {"logits_to_keep": n} if "logits_to_keep" in names else {}


class Lane:
    """A model and what it has read of each row. It reads columns: some rows may have nothing in one (padding, a draft that
    was refused); the mask hides those, and the positions count only what is there."""

    def __init__(self, engine, model, mask, room):
        self.e, self.model, torch = engine, model, engine.torch
        rows, self.n = len(mask), 0
        self.fixed = engine.o.cache not in ("", "dynamic") and model is engine.model
        if self.fixed:
            room = engine.o.max_total
        self.mask = torch.ones((rows, max(room, mask.shape[1])), dtype=torch.long, device=engine.device)
        self.mask[:, :mask.shape[1]] = mask
        self.next = torch.zeros((rows, 1), dtype=torch.long, device=engine.device)  # position of each row's next token
        self.cache = engine.make_cache(model, rows)
        self.read = None  # without a cache everything is read again

    def feed(self, ids, first=False):
        """Reads columns; returns the logits after each of them, of the first ones only the last."""
        torch, e = self.e.torch, self.e
        n = ids.shape[1]
        here = self.mask[:, self.n:self.n + n]
        position = (self.next + here.cumsum(-1) - 1).clamp_(0, e.o.max_total - 1)
        self.next = self.next + here.sum(-1, keepdim=True)
        self.n += n
        mask = self.mask if self.fixed else self.mask[:, :self.n]
        keep = 1 if first else n
        if not e.o.use_cache:
            past = self.read or (ids[:, :0], position[:, :0])
            ids, position = self.read = tuple(torch.cat(p, 1) for p in zip(past, (ids, position)))
        run = e.decode if n == 1 and self.model is e.model and not first else self.model
        got = run(input_ids=ids, attention_mask=mask, position_ids=position, past_key_values=self.cache,
                  use_cache=e.o.use_cache, **last_logits(self.model, keep))
        if first and self.model is e.model:
            e.check_cache(self.cache, got.past_key_values)
        self.cache = got.past_key_values if e.o.use_cache else None
        return got.logits[:, -keep:]

    def take_back(self, kept):
        """Of the columns read last, hides those that are 0 in kept, and forgets what lies behind the last one that any row
        keeps."""
        n = kept.shape[1]
        self.next = self.next - (self.mask[:, self.n - n:self.n] - kept).sum(-1, keepdim=True)
        self.mask[:, self.n - n:self.n] = kept
        used = kept.any(0).nonzero()
        drop = n - (int(used[-1]) + 1 if len(used) else 0)
        if drop:
            self.mask[:, self.n - drop:] = 1
            self.n -= drop
            for layer in self.cache.layers:
                layer.keys, layer.values = layer.keys[..., :self.n, :], layer.values[..., :self.n, :]


class Decoder:
    """Computes batches for one replica. report(start_ns, end_ns, prefill, ids, started) tells of each step."""

    def __init__(self, engine, sampling, report, counts):
        self.e, self.torch, self.sampling, self.report, self.counts = engine, engine.torch, sampling, report, counts

    def count(self, **more):
        for name, n in more.items():
            self.counts[name] = self.counts.get(name, 0) + n

    def batch(self, requests):
        o = self.e.o
        with self.torch.inference_mode():
            if o.assistant:
                return self.assisted(requests)
            if o.beams > 1:
                return self.beams(requests)
            return self.plain(requests)

    def padded(self, requests):
        width, device = max(len(r.tokens) for r in requests), self.e.device
        ids = self.torch.tensor([[0] * (width - len(r.tokens)) + r.tokens for r in requests], device=device)
        mask = self.torch.tensor([[0] * (width - len(r.tokens)) + [1] * len(r.tokens) for r in requests], device=device)
        return ids, mask

    @staticmethod
    def give(request, token, eos):
        """A token for a request that has not ended."""
        request.out.append(token)
        request.finish = "eos" if token in eos else "length" if len(request.out) >= request.max_out else ""

    def end_of_step(self):
        self.e.synchronize()
        return time.monotonic_ns()

    # ---- one token at a time

    def plain(self, requests):
        start = time.monotonic_ns()
        ids, mask = self.padded(requests)
        choose = Chooser(self.e, requests, self.sampling)
        lane = Lane(self.e, self.e.model, mask, ids.shape[1] + max(r.max_out for r in requests))
        prefill, started = sum(len(r.tokens) for r in requests), [r.id for r in requests]
        logits = lane.feed(ids, first=True)
        while True:
            tokens = choose(logits[:, -1])
            chosen = tokens.tolist()
            end = self.end_of_step()
            live = [(r, t) for r, t in zip(requests, chosen) if not r.finish]
            for r, t in live:
                self.give(r, t, choose.eos)
            self.report(start, end, prefill, [r.id for r, _ in live], started)
            if all(r.finish for r in requests):
                return
            start, prefill, started = time.monotonic_ns(), 0, None
            logits = lane.feed(tokens[:, None])

    # ---- an assistant drafts, the model verifies

    def assisted(self, requests):
        """The assistant drafts greedily; the model reads all drafts at once and chooses its own token after each of them.
        Drafts are taken while they are what the model chose, so the text is the one it would write alone, sampled ones
        included: a row draws only for tokens that it takes."""
        start = time.monotonic_ns()
        ids, mask = self.padded(requests)
        room = ids.shape[1] + (max(r.max_out for r in requests) + 2) * (self.e.o.drafts + 1)
        choose = Chooser(self.e, requests, self.sampling)
        lane, draft = Lane(self.e, self.e.model, mask, room), Lane(self.e, self.e.assistant, mask, room)
        logits = lane.feed(ids, first=True)
        draft.feed(ids, first=True)
        for side in (lane, draft):
            kinds = {type(layer).__name__ for layer in side.cache.layers}
            if kinds != {"DynamicLayer"}:
                raise Refused("unsupported", f"{type(side.model).__name__} keeps {', '.join(sorted(kinds))}: refused drafts "
                              "cannot be taken back from it, so it cannot take part in assisted generation")
        last = choose(logits[:, -1])[:, None]
        for r, t in zip(requests, last[:, 0].tolist()):
            self.give(r, t, choose.eos)
        behind = None  # drafts that were all taken: the assistant has not read its own last one
        self.report(start, self.end_of_step(), sum(len(r.tokens) for r in requests), [r.id for r in requests],
                    [r.id for r in requests])
        while not all(r.finish for r in requests):
            start = time.monotonic_ns()
            left = max(r.max_out - len(r.out) for r in requests if not r.finish)
            n = min(self.e.o.drafts, left - 1)
            drafts, behind_width = self.propose(draft, last, behind, n)
            logits = lane.feed(self.torch.cat([last, drafts], 1))
            taken, last = self.verify(requests, choose, logits, drafts, last)
            behind = self.settle(lane, draft, taken, drafts, n, behind_width)
            ids = [r.id for r, k in zip(requests, taken) for _ in range(max(k, 0))]
            self.count(verify_steps=1, drafted=n * sum(k >= 0 for k in taken), accepted=sum(k - 1 for k in taken if k > 0))
            self.report(start, self.end_of_step(), 0, ids, None)

    def propose(self, draft, last, behind, n):
        """n greedy tokens of the assistant for each row. `behind`: (tokens, rows that lack them), read first."""
        width = 0
        if behind is not None and n:
            tokens, lacks = behind
            draft.mask[:, draft.n:draft.n + 1] = lacks
            draft.feed(tokens)
            width = 1
        got, token = [], last
        for _ in range(n):
            token = draft.feed(token)[:, -1].argmax(-1, keepdim=True)
            got.append(token)
        return (self.torch.cat(got, 1) if got else last[:, :0]), width

    def verify(self, requests, choose, logits, drafts, last):
        """Tokens that each row takes (-1: it had ended), and its last one."""
        proposed, taken, last = drafts.tolist(), [-1 if r.finish else 0 for r in requests], last.clone()
        rows = [i for i, r in enumerate(requests) if not r.finish]
        for k in range(logits.shape[1]):
            at = self.torch.tensor(rows, device=logits.device)
            tokens = choose(logits[at, k], rows)
            last[at, 0] = tokens
            going = []
            for i, t in zip(rows, tokens.tolist()):
                self.give(requests[i], t, choose.eos)
                taken[i] += 1
                if not requests[i].finish and k < len(proposed[i]) and proposed[i][k] == t:
                    going.append(i)
            rows = going
            if not rows:
                break
        return taken, last

    def settle(self, lane, draft, taken, drafts, n, behind_width):
        """Both lanes forget the drafts that were not taken. A row that took k tokens has k - 1 drafts in its text, and the
        token before them, which was read in front of them."""
        torch, device = self.torch, drafts.device
        k = torch.tensor(taken, device=device)[:, None]
        lane.take_back((torch.arange(n + 1, device=device)[None] < k).long())
        if n:
            draft.take_back((torch.arange(n, device=device)[None] < k).long())
            all_taken = (k == n + 1).long()
            return (drafts[:, -1:], all_taken) if bool(all_taken.any()) else None
        return None

    # ---- beams

    def beams(self, requests):
        from .beams import search
        if self.sampling["temperature"] > 0:
            raise Refused("unsupported", "beam search takes the likeliest texts; sampling among them is not what this worker "
                          "does: set do_sample: false")
        return search(self, requests)
