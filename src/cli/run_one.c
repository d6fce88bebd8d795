#include "cli/run_one.h"

#include <signal.h>
#include <sys/signalfd.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "run/summarize.h"
#include "store/store.h"
#include "sys/fs.h"
#include "weights/weights.h"

int cli_local_shape(const char *model_name, const char *base_dir, struct model_shape *ret)
{
	return weights_local_shape(model_name, base_dir, ret, NULL);
}

void cli_print_findings(const struct finding_list *all)
{
	_cleanup_str_ struct str text = STR_INIT;
	struct finding_list grave = {0};

	grave.at = lem_calloc(all->n, sizeof(*grave.at));
	for (size_t i = 0; i < all->n; i++)
		if (all->at[i].severity != SEVERITY_INFO)
			grave.at[grave.n++] = all->at[i];
	config_findings_text(&grave, &text);
	free(grave.at);
	fputs(str_c(&text), stderr);
}

int cli_signals_fd(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

void cli_ignore_signals(void)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

struct texts {
	struct str config, provenance, overrides;
	char hash[17];
};

static void texts_of(const struct config *c, struct texts *t)
{
	*t = (struct texts){0};
	config_effective_json(c, &t->config);
	config_provenance_json(c, &t->provenance);
	config_overrides_json(c, &t->overrides);
	config_hash(c, t->hash);
}

static void texts_release(struct texts *t)
{
	str_release(&t->config);
	str_release(&t->provenance);
	str_release(&t->overrides);
}

struct teller {
	const struct run_one_request *q;
	struct progress_line *line;
};

static void tell(void *arg, const char *note)
{
	const struct teller *t = arg;

	if (t->q->quiet)
		return;
	for (const char *const *p = t->q->told; p && *p; p++)
		if (str_eq(*p, note))
			return;
	progress_clear(t->line);
	fprintf(stderr, "lem: warning: %s\n", note);
}

/* ---- several loads: each is stored as soon as it was measured ---- */

struct keeper {
	const struct run_one_request *q;
	struct store *st;
	struct run_outcome *o;
	struct progress_line *line;
};

/* By the worst: interrupted, routing, failed, refused, invalid. */
static int worse(int a, int b)
{
	static const int order[] = {CLI_OK,     CLI_INVALID, CLI_REFUSED,
				    CLI_FAILED, CLI_ROUTING, CLI_INTERRUPTED};
	size_t ka = 0, kb = 0;

	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		ka = order[i] == a ? i : ka;
		kb = order[i] == b ? i : kb;
	}
	return ka > kb ? a : b;
}

static int exit_code(const struct summary *s, const struct lem_error *err,
		     const struct lem_error *store_err)
{
	if (store_err->code)
		return lem_code_exit(store_err->code);
	if (err->code)
		return lem_code_exit(err->code);
	return s->verdict.level == VERDICT_INVALID ? CLI_INVALID : CLI_OK;
}

/* Sums up, stores, and notes it among the levels; the summary is the outcome's. */
static struct level_outcome *add_level(struct store *st, const struct run_record *r,
				       const struct lem_error *err, struct run_outcome *o)
{
	_cleanup_str_ struct str json = STR_INIT;
	struct lem_error store_err = LEM_ERROR_INIT;
	struct level_outcome *v;

	o->levels = lem_reallocarray(o->levels, o->n_levels + 1, sizeof(*o->levels));
	v = &o->levels[o->n_levels++];
	*v = (struct level_outcome){.status = r->status, .level = r->level};
	v->level.launch_id = NULL;
	lem_strlcpy(v->run_id, r->run_id, sizeof(v->run_id));
	lem_strlcpy(o->launch_id, r->level.launch_id, sizeof(o->launch_id));
	v->summary = lem_calloc(1, sizeof(*v->summary));
	summarize(r, v->summary);
	(void)store_put(st, r, v->summary, &store_err);
	result_json(r, v->summary, &json);
	v->result = str_detach(&json);
	v->exit_code = exit_code(v->summary, err, &store_err);
	o->exit_code = worse(o->exit_code, v->exit_code);
	if (store_err.code && !o->store_err.code)
		o->store_err = store_err;
	return v;
}

static void tell_level(const struct keeper *k, const struct level_outcome *v)
{
	_cleanup_str_ struct str s = STR_INIT;

	if (k->q->quiet)
		return;
	progress_clear(k->line);
	cli_level_line(v, &s);
	fprintf(stderr, "lem: %s\n", str_c(&s));
}

static void level_done(void *arg, const struct run_record *r)
{
	const struct keeper *k = arg;
	const struct lem_error none = LEM_ERROR_INIT;

	tell_level(k, add_level(k->st, r, &none, k->o));
}

static int level_id(void *arg, char *buf, size_t size, struct lem_error *err)
{
	const struct keeper *k = arg;
	const char *name = config_experiment(k->q->config)->config_name;

	(void)err;
	/* A store that fails now does not end the launch: the level is saved elsewhere, under an id
	 * that nobody else can have. */
	if (store_new_run_id(k->st, name, buf, size, NULL) < 0)
		(void)snprintf(buf, size, "%.100s-%zu", k->o->launch_id, k->o->n_levels + 1);
	return 0;
}

/* ---- the run ---- */

/* Runs into o->record; negative with o->err. */
static int run(const struct run_one_request *q, struct store *st, struct run_outcome *o)
{
	_cleanup_free_ char *program_dir = fs_program_dir();
	struct progress_line line = {.terminal = isatty(STDERR_FILENO), .quiet = q->quiet};
	struct teller teller = {q, &line};
	struct keeper keeper = {q, st, o, &line};
	struct texts t;
	struct run_request r = {
		.exp = config_experiment(q->config),
		.run_id = o->run_id,
		.program_dir = program_dir,
		.progress = progress_show,
		.progress_arg = &line,
		.warn = tell,
		.warn_arg = &teller,
		.cancel_fd = q->cancel_fd,
		.level_done = level_done,
		.level_id = level_id,
		.level_arg = &keeper,
	};
	int rc;

	texts_of(q->config, &t);
	r.config_hash = t.hash;
	r.config_json = str_c(&t.config);
	r.provenance_json = str_c(&t.provenance);
	r.cli_overrides_json = str_c(&t.overrides);
	rc = run_experiment(&r, &o->record, &o->err);
	if (rc >=
	    0) /* what was overcome on the way, a name that was taken, is no error of the run */
		o->err = (struct lem_error)LEM_ERROR_INIT;
	progress_clear(&line);
	texts_release(&t);
	return rc;
}

/* What was started is summed up and stored, however it ended. */
static void conclude(const struct run_one_request *q, struct store *st, struct run_outcome *o)
{
	struct progress_line line = {.quiet = true};
	const struct keeper k = {q, st, o, &line};

	o->summary = lem_calloc(1, sizeof(*o->summary));
	if (o->n_asked) {
		const struct level_outcome *v = add_level(st, &o->record, &o->err, o);

		*o->summary = *v->summary;
		lem_strlcpy(o->run_id, v->run_id, sizeof(o->run_id));
		tell_level(&k, v);
		return;
	}
	summarize(&o->record, o->summary);
	(void)store_put(st, &o->record, o->summary, &o->store_err);
	o->exit_code = exit_code(o->summary, &o->err, &o->store_err);
}

int run_one(const struct run_one_request *q, struct run_outcome *ret)
{
	const struct experiment *e = config_experiment(q->config);
	struct run_outcome *o = ret;
	struct store *st = NULL;
	int rc;

	*o = (struct run_outcome){.n_asked = run_n_levels(e)};
	run_record_init(&o->record);
	rc = store_open(q->results_dir, &st, &o->err);
	if (rc >= 0)
		rc = store_new_run_id(st, e->config_name, o->run_id, sizeof(o->run_id), &o->err);
	if (rc >= 0)
		rc = run(q, st, o);
	if (o->record.t_start_ns)
		conclude(q, st, o);
	else if (rc < 0)
		o->exit_code = worse(o->exit_code, lem_code_exit(o->err.code));
	store_close(st);
	return o->exit_code;
}

void run_outcome_release(struct run_outcome *o)
{
	run_record_release(&o->record);
	for (size_t i = 0; i < o->n_levels; i++) {
		free(o->levels[i].summary);
		free(o->levels[i].result);
	}
	free(o->levels);
	o->levels = NULL;
	o->n_levels = 0;
	free(o->summary);
	o->summary = NULL;
}
