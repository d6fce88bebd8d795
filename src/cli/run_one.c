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

/* Runs into o->record; negative with o->err. */
static int run(const struct run_one_request *q, struct run_outcome *o)
{
	_cleanup_free_ char *program_dir = fs_program_dir();
	struct progress_line line = {.terminal = isatty(STDERR_FILENO), .quiet = q->quiet};
	struct teller teller = {q, &line};
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
	};
	int rc;

	texts_of(q->config, &t);
	r.config_hash = t.hash;
	r.config_json = str_c(&t.config);
	r.provenance_json = str_c(&t.provenance);
	r.cli_overrides_json = str_c(&t.overrides);
	rc = run_experiment(&r, &o->record, &o->err);
	progress_clear(&line);
	texts_release(&t);
	return rc;
}

/* What was started is summed up and stored, however it ended. */
static void conclude(struct store *st, int rc, struct run_outcome *o)
{
	o->summary = lem_calloc(1, sizeof(*o->summary));
	summarize(&o->record, o->summary);
	if (store_put(st, &o->record, o->summary, &o->store_err) < 0)
		o->exit_code = lem_code_exit(o->store_err.code);
	else if (rc < 0)
		o->exit_code = lem_code_exit(o->err.code);
	else
		o->exit_code = o->summary->verdict.level == VERDICT_INVALID ? CLI_INVALID : CLI_OK;
}

int run_one(const struct run_one_request *q, struct run_outcome *ret)
{
	const struct experiment *e = config_experiment(q->config);
	struct run_outcome *o = ret;
	struct store *st = NULL;
	int rc;

	*o = (struct run_outcome){0};
	run_record_init(&o->record);
	rc = store_open(q->results_dir, &st, &o->err);
	if (rc >= 0)
		rc = store_new_run_id(st, e->config_name, o->run_id, sizeof(o->run_id), &o->err);
	if (rc >= 0)
		rc = run(q, o);
	if (o->record.t_start_ns)
		conclude(st, rc, o);
	else if (rc < 0)
		o->exit_code = lem_code_exit(o->err.code);
	store_close(st);
	return o->exit_code;
}

void run_outcome_release(struct run_outcome *o)
{
	run_record_release(&o->record);
	free(o->summary);
	o->summary = NULL;
}
