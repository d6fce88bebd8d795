"""Which prompts are computed together, and by which replica. Pure; `requests` only need their `tokens`."""

STRATEGIES = ("static", "sorted_static", "dynamic", "sorted_dynamic")


def in_order(requests, strategy):
    """Sorted strategies take the longest prompts first: what needs most memory shows at once, and prompts of like
    length share a batch, which saves padding."""
    if not strategy.startswith("sorted"):
        return list(requests)
    return sorted(requests, key=lambda r: -len(r.tokens))  # stable: equal ones keep their order


def deal(requests, replicas):
    """Like cards: the k-th prompt of the order goes to replica k mod replicas. Each prompt goes to exactly one."""
    return [requests[i::replicas] for i in range(replicas)]


def group(requests, strategy, batch_size, max_tokens):
    """Batches, in order. Static ones have batch_size prompts each. Dynamic ones end before the prompt that would make
    them larger than max_tokens, counted with padding (prompts × the longest of them), or than batch_size prompts; a
    prompt longer than max_tokens is alone."""
    if not strategy.endswith("dynamic"):
        return [requests[i:i + batch_size] for i in range(0, len(requests), batch_size)]
    batches, width = [], 0
    for r in requests:
        wider = max(width, len(r.tokens))
        if batches and len(batches[-1]) < batch_size and (len(batches[-1]) + 1) * wider <= max_tokens:
            batches[-1].append(r)
            width = wider
        else:
            batches.append([r])
            width = len(r.tokens)
    return batches


def padding(batch):
    """Columns of a padded batch that hold no prompt token."""
    return len(batch) * max(len(r.tokens) for r in batch) - sum(len(r.tokens) for r in batch)
