/*
 * ops.h — what a meter is, and what it may use while it is opened. For the files of this folder.
 */
#ifndef LEM_METER_OPS_H
#define LEM_METER_OPS_H

#include <stdatomic.h>

#include "base/vec.h"
#include "meter/meter.h"

/* A series while it is filled. `n` is published after the entry, so that sampler_snapshot and
 * sampler_stop may read what is there while the thread goes on, or hangs in a driver call. */
struct column {
	/* Set before the thread starts, and only read then; n, dropped and failed are set when the
	 * columns are handed over. */
	struct series s;
	_Atomic size_t n;
	_Atomic uint64_t dropped, failed; /* written by the sampler thread alone */
	double hz;                        /* entries expected a second, for sizing */
	bool whole;                       /* never shortened to save memory */
	bool live;                        /* feeds sampler_watts_now */
	double watts;
	int64_t ref_t_ns, ref_value; /* where the power of a counter is reckoned from */
};

/* Appends one reading. Sampler thread. */
void column_push(struct column *c, int64_t t_begin_ns, int64_t t_end_ns, int64_t value, bool ok);
/* Counts a read that gave nothing to append. Sampler thread. */
void column_failed(struct column *c);

enum { METER_NEVER_AGAIN = -1 };

enum meter_why {
	METER_DUE,  /* its time has come, give or take the slack */
	METER_MARK, /* the edge of a phase is now */
	METER_LAST, /* the sampler stops */
};

/*
 * One thing to read now and then. `read` runs on the sampler thread; it may block in a driver or
 * kernel call but neither allocates, locks nor logs. `due_ns` is when it is or was due. Returns
 * when to be called next, or METER_NEVER_AGAIN.
 */
struct meter_task {
	int64_t (*read)(void *arg, int64_t due_ns, enum meter_why why);
	void *arg;
	int64_t due_ns;
	int64_t slack_ns;     /* may run this much early to share a wake-up */
	const int64_t *slack; /* instead, when it changes from read to read; NULL: it does not */
	bool at_marks;        /* read at marks as well */
};

struct meter_setup {
	const struct meter_request *req;
	const char
		*sysfs_root; /* "" or LEM_SYSFS_ROOT without the slash at the end: + "/class/…" */
	int64_t counter_period_ns;
	const _Atomic pid_t *watched; /* 0 until sampler_watch_pid */
	bool cpu_energy; /* an earlier meter reads the CPU packages: they are not read twice */
	void *region;    /* the columns' memory */
	size_t region_size, region_used;
	VEC(struct column *) columns;
	VEC(struct meter_task) tasks;
	VEC(struct meter_status) statuses;
};

struct meter_ops {
	const char *name;
	bool on_request; /* not part of "auto" */
	/*
	 * Caller's thread, may block and allocate. Adds columns, tasks and statuses to `su`; at
	 * least one status when nothing is readable. Returns the meter's state, NULL when there is
	 * nothing to read.
	 */
	void *(*open)(struct meter_setup *su);
	/* Caller's thread, after the sampler has stopped: statuses about what happened meanwhile.
	 * May be NULL. */
	void (*report)(void *state, struct meter_setup *su);
	/* Caller's thread; frees the state. Columns belong to the setup. */
	void (*close)(void *state);
};

extern const struct meter_ops meter_nvml, meter_rapl_perf, meter_rapl_powercap, meter_estimate,
	meter_self;

/* All meters in the order in which they are opened, NULL-terminated. */
extern const struct meter_ops *const meter_registry[];

struct column *meter_add_column(struct meter_setup *su, const char *meter, enum signal signal,
				enum domain domain, const char *device, double hz);
/* The returned entry may be completed; it is valid until the next one is added. */
struct meter_task *meter_add_task(struct meter_setup *su,
				  int64_t (*read)(void *, int64_t, enum meter_why), void *arg,
				  int64_t slack_ns);
/* The returned entry may be given a fix; it is valid until the next one is added. */
struct meter_status *meter_add_status(struct meter_setup *su, const char *meter, const char *device,
				      bool usable, const char *fmt, ...) _printf_(5, 6);

/* The setup's life, for sampler.c and the tests. */
struct opened_meter {
	const struct meter_ops *ops;
	void *state;
};
enum { METERS_MAX = 16 };
void meter_setup_init(struct meter_setup *su, const struct meter_request *req,
		      const _Atomic pid_t *watched);
size_t meter_setup_open(struct meter_setup *su, struct opened_meter opened[METERS_MAX]);
void meter_setup_allocate(
	struct meter_setup *su); /* the columns' memory, after everything is open */
void meter_setup_release(struct meter_setup *su); /* columns, tasks, statuses */

/* When a task of fixed period is due next: the next multiple of the period after due_ns that is
 * still ahead, with no burst to catch up. A read at a mark leaves the schedule as it is. */
int64_t meter_next_due(int64_t due_ns, int64_t period_ns, enum meter_why why);

#endif
