#include "run/watch_book.h"

#include "base/str.h"

void watch_book_open(struct watch_book *k, const struct gpu_binding *b)
{
	k->n_cards = MIN(b->n, (size_t)WATCH_CARDS_MAX);
	for (size_t i = 0; i < k->n_cards; i++) {
		lem_strlcpy(k->cards[i].uuid, gpu_ref_card(&b->gpus[i]), sizeof(k->cards[i].uuid));
		k->cards[i].index = b->gpus[i].index;
	}
}

static struct watch_card *find_card(struct watch_book *k, const char *uuid)
{
	for (size_t i = 0; i < k->n_cards; i++)
		if (str_eq(k->cards[i].uuid, uuid))
			return &k->cards[i];
	return NULL;
}

static void enter_engine(struct watch_book *k, int64_t t_ns, const struct gpu_process *p)
{
	struct watch_card *c = find_card(k, p->card_uuid);

	if (c) {
		c->t_engine_first_ns = c->t_engine_first_ns ? c->t_engine_first_ns : t_ns;
		c->t_engine_last_ns = t_ns;
	} else if (!k->stray[0]) {
		(void)snprintf(k->stray, sizeof(k->stray),
			       "pid %lld of the engine was on GPU %d (%.44s), which gpus does not "
			       "list",
			       (long long)p->pid, p->gpu_index, p->card_uuid);
	}
}

static void enter_foreigner(struct watch_book *k, int64_t t_ns, const struct gpu_process *p)
{
	struct gpu_foreigner *f = NULL;

	for (size_t i = 0; i < k->n_foreigners && !f; i++)
		if (k->foreigners[i].pid == p->pid &&
		    str_eq(k->foreigners[i].card_uuid, p->card_uuid))
			f = &k->foreigners[i];
	if (!f && k->n_foreigners == WATCH_FOREIGNERS_MAX) {
		k->n_unwritten++;
		return;
	}
	if (!f) {
		f = &k->foreigners[k->n_foreigners++];
		*f = (struct gpu_foreigner){.pid = p->pid, .t_first_ns = t_ns, .graphics = true};
		lem_strlcpy(f->card_uuid, p->card_uuid, sizeof(f->card_uuid));
		if (k->describe)
			k->describe(p->pid, f->name, sizeof(f->name), f->user, sizeof(f->user));
	}
	f->t_last_ns = t_ns;
	f->graphics &= p->graphics; /* once it computed it is no mere display */
	f->memory_bytes = MAX(f->memory_bytes, p->memory_bytes);
}

void watch_book_enter(struct watch_book *k, int64_t t_ns, const struct gpu_process *p,
		      const bool *ours, size_t n, pid_t self)
{
	k->n_looks++;
	k->t_look_last_ns = t_ns;
	k->trouble[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		if (ours[i])
			enter_engine(k, t_ns, &p[i]);
		else if (p[i].pid != self && find_card(k, p[i].card_uuid))
			enter_foreigner(k, t_ns, &p[i]);
	}
}

void watch_book_trouble(struct watch_book *k, const char *why)
{
	lem_strlcpy(k->trouble, why, sizeof(k->trouble));
}

void watch_book_lost(struct watch_book *k, size_t card, int64_t t_ns)
{
	if (card < k->n_cards && !k->cards[card].t_lost_ns)
		k->cards[card].t_lost_ns = t_ns;
}

static bool engine_seen(const struct watch_book *k)
{
	for (size_t i = 0; i < k->n_cards; i++)
		if (k->cards[i].t_engine_last_ns)
			return true;
	return k->stray[0] != '\0';
}

/* The indices of the cards on which the engine was (or was not) seen since then: "2, 5". */
static size_t list_cards(const struct watch_book *k, int64_t since_ns, bool seen, char *buf,
			 size_t size)
{
	size_t n = 0, used = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < k->n_cards; i++) {
		const struct watch_card *c = &k->cards[i];

		if ((c->t_engine_last_ns && c->t_engine_last_ns >= since_ns) != seen)
			continue;
		used = strlen(buf);
		(void)snprintf(buf + used, size - used, "%s%d", n ? ", " : "", c->index);
		n++;
	}
	return n;
}

static void guard(struct gpu_binding *b, enum gpu_guard level, const char *fmt, ...) _printf_(3, 4);
static void guard(struct gpu_binding *b, enum gpu_guard level, const char *fmt, ...)
{
	va_list ap;

	b->guard_level = level;
	va_start(ap, fmt);
	vsnprintf(b->guard, sizeof(b->guard), fmt, ap);
	va_end(ap);
}

/* Only looks since the window began tell of the window. */
static void judge_window(const struct watch_book *k, int64_t window_start_ns, struct gpu_binding *b)
{
	char cards[100];
	bool looked = k->t_look_last_ns && k->t_look_last_ns >= window_start_ns;

	if (!window_start_ns)
		return; /* nothing was measured, so nothing needed a witness */
	if (!k->n_looks || !looked)
		guard(b, GPU_GUARD_NONE, "the driver's process lists could not be read: %s",
		      k->trouble[0] ? k->trouble : "there was no time for a look");
	else if (list_cards(k, window_start_ns, false, cards, sizeof(cards)))
		guard(b, GPU_GUARD_UNSEEN,
		      "the driver's process lists did not show the engine on GPU %.40s during the "
		      "window",
		      cards);
	else if (list_cards(k, window_start_ns, true, cards, sizeof(cards)))
		guard(b, GPU_GUARD_SEEN,
		      "the driver's process lists showed the engine on GPU %.40s during the window",
		      cards);
}

static void take_foreigners(const struct watch_book *k, struct gpu_binding *b)
{
	if (!k->n_foreigners)
		return;
	free(b->foreigners);
	b->n_foreigners = k->n_foreigners;
	b->foreigners = lem_calloc(k->n_foreigners, sizeof(*b->foreigners));
	memcpy(b->foreigners, k->foreigners, k->n_foreigners * sizeof(*b->foreigners));
}

void watch_book_close(const struct watch_book *k, int64_t window_start_ns, struct gpu_binding *b)
{
	for (size_t i = 0; i < k->n_cards; i++)
		b->gpus[i].t_lost_ns = k->cards[i].t_lost_ns;
	if (k->stray[0]) {
		guard(b, GPU_GUARD_STRAY, "%s", k->stray);
		b->proved = false;
		lem_strlcpy(b->proof, k->stray, sizeof(b->proof));
	} else if (k->own_namespace && !engine_seen(k)) {
		guard(b, GPU_GUARD_NONE,
		      "lem is in a pid namespace of its own, so the driver's pids cannot be "
		      "matched "
		      "to the engine's");
		return; /* what looks foreign may be the engine */
	} else {
		judge_window(k, window_start_ns, b);
	}
	take_foreigners(k, b);
}
