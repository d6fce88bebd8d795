#include "load/recv_log.h"

#include <sys/mman.h>

enum { MIN_BYTES = 1 << 20, MIN_MARKS = 1 << 20, BYTES_PER_MARK = 64 };

static void *reserve(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		       -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	(void)madvise(p, n, MADV_HUGEPAGE); /* filled from its start: fewer faults in the window */
	return p;
}

int recv_log_reserve(struct recv_log *l, uint64_t bytes, struct lem_error *err)
{
	uint64_t marks =
		MIN(MAX(bytes / BYTES_PER_MARK, (uint64_t)MIN_MARKS), (uint64_t)RECV_LOG_END - 1);

	*l = (struct recv_log){.cap = MAX(bytes, (uint64_t)MIN_BYTES),
			       .cap_marks = (uint32_t)marks};
	while (!(l->bytes = reserve(l->cap)) && l->cap / 2 >= MIN_BYTES)
		l->cap /= 2;
	while (l->bytes && !(l->marks = reserve(l->cap_marks * sizeof(*l->marks))) &&
	       l->cap_marks / 2 >= MIN_MARKS / 64)
		l->cap_marks /= 2;
	if (l->marks)
		return 0;
	recv_log_release(l);
	return lem_fail(err, LEM_E_IO, "this host gives no address space for the answers: %s",
			strerror(errno));
}

void recv_log_release(struct recv_log *l)
{
	if (l->bytes)
		munmap(l->bytes, l->cap);
	if (l->marks)
		munmap(l->marks, l->cap_marks * sizeof(*l->marks));
	*l = (struct recv_log){0};
}

static void touch(char *p, uint64_t n)
{
	for (uint64_t i = 0; i < n; i += 4096)
		((volatile char *)p)[i] = 0;
}

void recv_log_warm(struct recv_log *l, uint64_t bytes, uint64_t marks)
{
	touch(l->bytes, MIN(bytes, l->cap));
	touch((char *)l->marks, MIN(marks, (uint64_t)l->cap_marks) * sizeof(*l->marks));
}

size_t recv_log_room(const struct recv_log *l, size_t want, char **ret)
{
	if (l->n_marks == l->cap_marks)
		return 0;
	*ret = l->bytes + l->len;
	return (size_t)MIN((uint64_t)want, l->cap - l->len);
}

void recv_log_add(struct recv_log *l, struct recv_chain *chain, size_t n, int64_t t_ns)
{
	uint32_t i = l->n_marks++;

	assert(i < l->cap_marks && n <= l->cap - l->len && n <= UINT32_MAX);
	l->marks[i] = (struct recv_mark){
		.at = l->len, .t_ns = t_ns, .len = (uint32_t)n, .next = RECV_LOG_END};
	l->len += n;
	if (chain->last == RECV_LOG_END)
		chain->first = i;
	else
		l->marks[chain->last].next = i;
	chain->last = i;
}
