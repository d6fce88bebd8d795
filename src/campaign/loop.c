#include <poll.h>

#include "campaign/impl.h"
#include "run/run.h"

const char *cell_status_name(enum cell_status s)
{
	static const char *const names[] = {"ready",   "completed",   "failed",
					    "refused", "interrupted", "not_started"};

	return names[s];
}

/* The plan lives as long as the record that it was made in: keep what will be shown. */
static void keep_plan(struct arena *a, const struct run_plan *plan, const struct run_record *r,
		      struct campaign_cell *cell)
{
	const struct gpu_binding *b = plan->binding;
	struct cell_gpu *gpus = arena_array(a, b->n + 1, sizeof(*gpus));
	const char **notes = arena_array(a, r->n_notes + 1, sizeof(*notes));

	for (size_t i = 0; i < b->n; i++) {
		lem_strlcpy(gpus[i].requested, b->gpus[i].requested, sizeof(gpus[i].requested));
		lem_strlcpy(gpus[i].uuid, b->gpus[i].uuid, sizeof(gpus[i].uuid));
		gpus[i].index = b->gpus[i].index;
	}
	for (size_t i = 0; i < r->n_notes; i++)
		notes[i] = arena_strdup(a, r->notes[i]);
	cell->gpus = gpus;
	cell->n_gpus = b->n;
	cell->warnings = notes;
	cell->where = arena_strdup(a, plan->runner->name);
	cell->path = arena_strdup(a, b->path);
	cell->image = plan->runner->is_container ? arena_strdup(a, plan->spec->image) : NULL;
}

size_t campaign_plan(struct campaign *c, const char *program_dir)
{
	size_t refused = 0;

	for (size_t i = 0; i < c->n; i++) {
		struct campaign_cell *cell = &c->cells[i];
		const struct run_request q = {.exp = config_experiment(cell->config),
					      .program_dir = program_dir,
					      .cancel_fd = -1};
		struct run_record r;
		struct run_plan plan;

		run_record_init(&r);
		if (run_plan(&q, &r, &plan, &cell->err) >= 0) {
			keep_plan(&c->arena, &plan, &r, cell);
		} else {
			cell->status = CELL_REFUSED;
			cell->exit_code = 2;
			refused++;
		}
		run_record_release(&r);
	}
	return refused;
}

static bool is_cancelled(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return fd >= 0 && poll(&p, 1, 0) > 0;
}

void campaign_run(struct campaign *c, campaign_cell_fn run, void *arg, int cancel_fd)
{
	bool stopped = false;

	for (size_t i = 0; i < c->n; i++) {
		stopped = stopped || is_cancelled(cancel_fd);
		if (stopped) {
			c->cells[i].status = CELL_NOT_STARTED;
			continue;
		}
		run(arg, &c->cells[i], i);
		stopped = c->cells[i].status == CELL_INTERRUPTED;
	}
}

static bool any(const struct campaign *c, enum cell_status status)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->cells[i].status == status)
			return true;
	return false;
}

static bool any_code(const struct campaign *c, int code)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->cells[i].exit_code == code)
			return true;
	return false;
}

int campaign_exit_code(const struct campaign *c)
{
	bool ran = any(c, CELL_COMPLETED) || any(c, CELL_FAILED) || any(c, CELL_INTERRUPTED);

	if (any(c, CELL_INTERRUPTED) || any(c, CELL_NOT_STARTED))
		return 130;
	if (!campaign_ok(c) || (any(c, CELL_REFUSED) && !ran))
		return 2;
	if (any_code(c, 3))
		return 3;
	if (any(c, CELL_FAILED) || any(c, CELL_REFUSED))
		return 1;
	return any_code(c, 4) ? 4 : 0;
}
