#include "run/watch.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "run/watch_book.h"

#define LOOK_EVERY_NS NS_PER_S
/* As in meter/sampler.c: ten times the slowest driver call seen. */
enum { STOP_PATIENCE_S = 1, PROCESSES_MAX = 1024 };

struct watch {
	struct watch_book book; /* the thread's until it has ended */
	struct nvml *nvml;
	nvml_device devices[WATCH_CARDS_MAX]; /* NULL: could not be opened */
	struct gpu_process seen[PROCESSES_MAX];
	bool ours[PROCESSES_MAX];
	pthread_t thread;
	int wake_fd;
	_Atomic bool stop;
	_Atomic unsigned epoch; /* goes up at each pause and each resumption: odd while paused */
	/* A driver call may outlast the run, so what tells the engine's processes is kept here. */
	struct running engine_copies[WATCH_ENGINES_MAX];
	size_t n_engines;
	_Atomic(const struct running *) engine; /* NULL, or one of those */
	/* Set once, after the book has the details. */
	_Atomic bool strayed;
	_Atomic int lost; /* card + 1; 0 none */
	struct watch *next_abandoned;
};

/* A thread that hung in a driver call keeps its watch for the rest of the process. */
static _Atomic(struct watch *) abandoned;

static void wake(const struct watch *w)
{
	uint64_t one = 1;

	(void)!write(w->wake_fd, &one, sizeof(one));
}

static void look_for_lost(struct watch *w)
{
	for (size_t i = 0; i < w->book.n_cards; i++) {
		struct nvml_memory memory;
		int r = w->devices[i] && w->nvml->memory_info
				? w->nvml->memory_info(w->devices[i], &memory)
				: NVML_SUCCESS;

		if (r != NVML_GPU_LOST && r != NVML_RESET_REQUIRED)
			continue;
		watch_book_lost(&w->book, i, clock_now_ns());
		atomic_store_explicit(&w->lost, (int)i + 1, memory_order_release);
	}
}

/* A process that was listed and has gone since may have been the engine's; a foreigner worth the
 * name is there at the next look too. Other namespaces' pids cannot be asked for. */
static bool has_gone(const struct watch *w, pid_t pid)
{
	return !w->book.own_namespace && pid > 0 && kill(pid, 0) < 0 && errno == ESRCH;
}

/* Whose the processes are; how many could be told. */
static size_t tell_apart(struct watch *w, const struct running *engine, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		bool ours = engine && runner_owns_pid(engine, w->seen[i].pid);

		if (!ours && has_gone(w, w->seen[i].pid))
			continue;
		w->seen[kept] = w->seen[i];
		w->ours[kept++] = ours;
	}
	return kept;
}

static void look(struct watch *w)
{
	unsigned epoch = atomic_load_explicit(&w->epoch, memory_order_acquire);
	const struct running *engine = atomic_load_explicit(&w->engine, memory_order_acquire);
	int64_t t_ns = clock_now_ns();
	struct lem_error err = LEM_ERROR_INIT;
	size_t n = 0;
	int rc;

	if (epoch % 2)
		return;
	look_for_lost(w);
	rc = gpu_processes_read(w->nvml, w->seen, PROCESSES_MAX, &n, &err);
	if (atomic_load_explicit(&w->epoch, memory_order_acquire) != epoch)
		return; /* a look across a pause may have seen what began in it */
	if (rc < 0) {
		watch_book_trouble(&w->book, err.what);
		return;
	}
	n = tell_apart(w, engine, MIN(n, (size_t)PROCESSES_MAX));
	watch_book_enter(&w->book, t_ns, w->seen, w->ours, n, getpid());
	if (w->book.stray[0])
		atomic_store_explicit(&w->strayed, true, memory_order_release);
}

/* Until the time has come or somebody wakes the thread. */
static void wait_until(const struct watch *w, int64_t t_ns)
{
	struct pollfd p = {.fd = w->wake_fd, .events = POLLIN};
	int64_t left_ns = t_ns - clock_now_ns();
	struct timespec ts = {.tv_sec = left_ns / NS_PER_S, .tv_nsec = left_ns % NS_PER_S};
	uint64_t count;

	if (left_ns > 0 && ppoll(&p, 1, &ts, NULL) > 0)
		(void)!read(w->wake_fd, &count, sizeof(count));
}

static void *watch_thread(void *arg)
{
	struct watch *w = arg;

	while (!atomic_load_explicit(&w->stop, memory_order_acquire)) {
		int64_t t_ns = clock_now_ns();

		look(w);
		wait_until(w, t_ns + LOOK_EVERY_NS);
	}
	look(w);
	return NULL;
}

/* The kernel's first pid namespace has a fixed inode (PROC_PID_INIT_INO in linux/proc_ns.h). */
static bool in_own_pid_namespace(void)
{
	char target[64];
	ssize_t n = readlink("/proc/self/ns/pid", target, sizeof(target) - 1);

	if (n < 0)
		return false;
	target[n] = '\0';
	return !str_eq(target, "pid:[4026531836]");
}

static void watch_free(struct watch *w)
{
	nvml_close(w->nvml);
	if (w->wake_fd >= 0)
		close(w->wake_fd);
	free(w);
}

int watch_start(const struct gpu_binding *b, struct watch **ret, struct lem_error *err)
{
	return watch_start_with(b, NULL, ret, err);
}

int watch_start_with(const struct gpu_binding *b, const struct running *engine, struct watch **ret,
		     struct lem_error *err)
{
	struct watch *w = lem_calloc(1, sizeof(*w));
	int rc;

	w->wake_fd = -1;
	rc = nvml_open(&w->nvml, err);
	if (rc < 0) {
		free(w);
		return rc;
	}
	watch_book_open(&w->book, b);
	w->book.describe = gpu_process_describe;
	w->book.own_namespace = in_own_pid_namespace();
	for (size_t i = 0; i < w->book.n_cards; i++)
		if (w->nvml->device_by_uuid(w->book.cards[i].uuid, &w->devices[i]) != NVML_SUCCESS)
			w->devices[i] = NULL;
	if (engine) {
		w->engine_copies[0] = *engine;
		w->n_engines = 1;
		atomic_store(&w->engine, &w->engine_copies[0]);
	}
	w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = w->wake_fd < 0 ? errno : pthread_create(&w->thread, NULL, watch_thread, w);
	if (rc) {
		watch_free(w);
		return lem_fail_errno(err, rc, "cannot start watching the GPUs");
	}
	*ret = w;
	return 0;
}

void watch_pause(struct watch *w)
{
	unsigned epoch = atomic_load(&w->epoch);

	atomic_store(&w->epoch, epoch | 1);
}

void watch_resume(struct watch *w, const struct running *r)
{
	unsigned epoch = atomic_load(&w->epoch);
	const struct running *engine = NULL;

	if (r) { /* a copy of its own: the thread may still be reading the one before */
		assert(w->n_engines < WATCH_ENGINES_MAX);
		w->engine_copies[w->n_engines] = *r;
		engine = &w->engine_copies[w->n_engines++];
	}
	atomic_store_explicit(&w->engine, engine, memory_order_release);
	atomic_store(&w->epoch, (epoch | 1) + 1);
	wake(w);
}

void watch_mark(struct watch *w)
{
	wake(w);
}

int watch_check(const struct watch *w, struct lem_error *err)
{
	int lost = atomic_load_explicit(&w->lost, memory_order_acquire);

	if (atomic_load_explicit(&w->strayed, memory_order_acquire)) {
		(void)lem_fail(err, LEM_E_ROUTING, "%s", w->book.stray);
		return lem_error_fix(err, "see how the engine chooses its devices; gpus is what "
					  "is measured");
	}
	if (!lost)
		return 0;
	(void)lem_fail(err, LEM_E_ENGINE, "R41: GPU %d (%s) was lost during the run",
		       w->book.cards[lost - 1].index, w->book.cards[lost - 1].uuid);
	(void)lem_error_why(err, "the driver says that it is gone or needs a reset");
	return lem_error_fix(err, "see `dmesg` for NVRM and Xid messages; reset or reboot, or "
				  "leave that GPU out of gpus");
}

static bool join(struct watch *w)
{
	struct timespec until;

	atomic_store_explicit(&w->stop, true, memory_order_release);
	wake(w);
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_PATIENCE_S;
	if (pthread_timedjoin_np(w->thread, NULL, &until) == 0)
		return true;
	(void)pthread_detach(w->thread);
	return false;
}

void watch_stop(struct watch *w, int64_t window_start_ns, struct gpu_binding *b)
{
	if (join(w)) {
		watch_book_close(&w->book, window_start_ns, b);
		watch_free(w);
		return;
	}
	lem_strlcpy(b->guard, "a driver call had not returned when the watch ended",
		    sizeof(b->guard));
	w->next_abandoned = atomic_load(&abandoned);
	while (!atomic_compare_exchange_weak(&abandoned, &w->next_abandoned, w))
		;
}
