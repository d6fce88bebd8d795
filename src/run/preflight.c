#include <netinet/in.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/rand.h"
#include "load/worker_request.h"
#include "run/life.h"
#include "sys/fs.h"

/* Everything that can be known to be wrong before anything is started. */

enum { SERVER_BATCH = 64 }; /* of a warm-up, where the engine's own is not known */

static int check_memory(const struct life *l, struct lem_error *err)
{
	const struct model_shape *s = &l->rec->shape;
	char need[24], have[24];

	if (l->runner == &runner_external || l->rec->binding.n ||
	    s->size_bytes < l->host.memory_available_bytes || !l->host.memory_available_bytes)
		return 0;
	lem_fail(err, LEM_E_REFUSED, "the weights need %s of memory, %s are available",
		 num_format_bytes(s->size_bytes, need, sizeof(need)),
		 num_format_bytes(l->host.memory_available_bytes, have, sizeof(have)));
	return lem_error_fix(err, "choose a smaller model or quantisation, or free memory");
}

/* What the result says of where the requests come from. */
static void describe_work(struct life *l)
{
	struct run_record *r = l->rec;
	const struct prompt_set *p = &l->prompts;

	r->work = (struct work_record){
		.source = arena_strdup(&r->arena, p->source),
		.file_sha256 = p->file_sha256[0] ? arena_strdup(&r->arena, p->file_sha256) : NULL,
		.n_records = (int64_t)p->n_records,
		.n_skipped = (int64_t)p->n_skipped,
	};
	if (p->n_cut_input)
		run_record_note(r,
				"%zu of %zu prompts are longer than max_input_tokens = %" PRId64
				" and were cut",
				p->n_cut_input, p->n, l->e->max_input_tokens);
	if (p->n_cut_output)
		run_record_note(r,
				"%zu of %zu answers should be longer than max_output_tokens = "
				"%" PRId64 " and are ended there",
				p->n_cut_output, p->n, l->e->max_output_tokens);
}

static int check_prompts(struct life *l, struct lem_error *err)
{
	const struct model_shape *s = &l->rec->shape;
	int64_t longest = l->e->max_input_tokens + l->e->max_output_tokens;

	/* A plan fetches no file; of what only the hub holds a tokenizer is assumed. */
	bool known = !l->planning || s->n_layer;

	describe_work(l);
	if (known && prompts_have_text(&l->prompts) && !s->has_tokenizer) {
		lem_fail(err, LEM_E_REFUSED, "the prompts are text, but '%s' has no tokenizer",
			 l->e->model_name);
		return lem_error_fix(
			err, "use prompts: {type: synthetic, count: 32, input_tokens: 128}");
	}
	if (!l->engine->http &&
	    worker_run_fits(&l->prompts, worker_run_least_bytes(&l->prompts), err) < 0)
		return -LEM_E_REFUSED;
	if (s->n_vocab && l->prompts.max_id >= s->n_vocab) {
		lem_fail(err, LEM_E_REFUSED,
			 "the prompts hold the token id %" PRId32
			 ", but the vocabulary of '%s' ends at %" PRId64,
			 l->prompts.max_id, l->e->model_name, s->n_vocab - 1);
		return lem_error_fix(err, "use ids made by this model's own tokenizer");
	}
	if (s->n_ctx_train && longest > s->n_ctx_train)
		run_record_note(l->rec,
				"max_input_tokens + max_output_tokens = %" PRId64
				" is more than the %" PRId64 " tokens the model was made for",
				longest, s->n_ctx_train);
	return 0;
}

/* min_output_tokens = max_output_tokens asks for exactly that many. */
static int64_t forced_tokens(const struct experiment *e)
{
	return e->min_output_tokens == e->max_output_tokens ? e->max_output_tokens : 0;
}

static bool same_name(const char *a, const char *b)
{
	size_t n = strcspn(a, "=");

	return n == strcspn(b, "=") && memcmp(a, b, n) == 0;
}

static bool is_named_in(const char *entry, const char *const *list)
{
	for (; list && *list; list++)
		if (same_name(entry, *list))
			return true;
	return false;
}

static size_t count_entries(const char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

/* What routes the GPUs stands last, once, and wins over whatever the engine or the config says. */
static const char *const *with_routing(const char *const *env, const char *const *routing,
				       struct arena *a)
{
	const char **all =
		arena_array(a, count_entries(env) + count_entries(routing) + 1, sizeof(*all));
	size_t n = 0;

	for (; env && *env; env++)
		if (!is_named_in(*env, routing))
			all[n++] = *env;
	for (; routing && *routing; routing++)
		all[n++] = *routing;
	return all;
}

/* Where files of the launch spec are written for the length of a run. */
static const char *scratch_dir(const struct life *l)
{
	const char *tmp = getenv("TMPDIR");

	return arena_printf(&l->rec->arena, "%s/lem-%s", tmp && tmp[0] == '/' ? tmp : "/tmp",
			    l->req->run_id ? l->req->run_id : "dry-run");
}

static int write_files(struct life *l, struct lem_error *err)
{
	const struct launch_file *f = l->spec.files;
	int rc = 0;

	if (!f || !f->host_path)
		return 0;
	rc = fs_mkdirs(scratch_dir(l), err);
	for (; f->host_path && rc >= 0; f++)
		rc = fs_write_atomic(f->host_path, f->contents, strlen(f->contents), err);
	return rc;
}

void life_remove_files(struct life *l)
{
	for (const struct launch_file *f = l->spec.files; f && f->host_path && !l->planning; f++)
		(void)unlink(f->host_path);
	if (l->spec.files && !l->planning)
		(void)rmdir(scratch_dir(l));
}

static const char *absolute(struct arena *a, const char *dir)
{
	_cleanup_free_ char *real = realpath(dir ? dir : ".", NULL);

	return arena_strdup(a, real ? real : "/");
}

/* Binds once and lets go again; the port, or 0. */
static int try_port(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t n = sizeof(a);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &n) < 0)
		return 0;
	return ntohs(a.sin_port);
}

/* One that nobody has now, and below those that the kernel gives to outgoing connections: an engine
 * may load for minutes before it listens. 0: none; a server that finds it taken after all says so
 * and ends, and is started again (run.c). */
static int free_port(void)
{
	enum { LOWEST = 10240, TRIES = 64, EPHEMERAL_USUALLY = 32768 };
	char range[64];
	int64_t below = EPHEMERAL_USUALLY;
	struct rand r;

	if (fs_read_line("/proc/sys/net/ipv4/ip_local_port_range", range, sizeof(range))) {
		range[strcspn(range, " \t")] = '\0';
		(void)num_parse_i64(range, &below);
	}
	rand_seed(&r, (uint64_t)clock_now_ns() ^ ((uint64_t)getpid() << 40));
	for (int i = 0; i < TRIES && below > LOWEST && below <= 65535; i++) {
		int port = try_port(
			(uint16_t)(LOWEST + (int64_t)rand_below(&r, (uint64_t)(below - LOWEST))));

		if (port)
			return port;
	}
	return try_port(0);
}

static int launch(struct life *l, struct lem_error *err)
{
	struct run_record *r = l->rec;
	struct engine_request q = {
		.exp = l->e,
		.shape = &r->shape,
		.binding = &r->binding,
		.model_path = r->model_path, /* the spec outlives this life */
		.program_dir = l->req->program_dir,
		.in_container = l->runner->is_container,
		.hf_cache = l->hf_home,
		.model_cached = l->model_cached,
		.hf_token = getenv("HF_TOKEN"),
		.home_dir = getenv("HOME"),
		.base_dir = absolute(&r->arena, l->e->root_dir),
		.scratch_dir = scratch_dir(l),
		.port = l->engine->http && !l->planning ? free_port() : 0,
		.threads_default =
			l->host.cores_allowed >= 4 ? l->host.cores_allowed : l->host.cpus_allowed,
	};
	int rc = l->engine->launch(&q, &r->arena, &l->spec, err);

	if (rc < 0)
		return rc;
	l->spec.env = with_routing(l->spec.env, r->binding.env, &r->arena);
	l->spec.binding = &r->binding;
	l->spec.run_id = l->req->run_id;
	l->spec.experiment = l->e->config_name;
	l->session.spec = &l->spec;
	l->session.silence_ns = l->spec.silence_ns;
	return 0;
}

static int make_spec(struct life *l, struct lem_error *err)
{
	int rc = launch(l, err);

	if (rc < 0 || l->planning)
		return rc;
	rc = write_files(l, err);
	if (rc < 0 || !l->runner->check)
		return rc;
	rc = l->runner->check(&l->spec, &l->session.context, err);
	if (rc < 0 && err->code != LEM_E_INTERRUPTED)
		err->code = LEM_E_REFUSED; /* nothing was started yet */
	return rc < 0 ? -(int)err->code : 0;
}

int life_launch_elsewhere(struct life *l, struct lem_error *err)
{
	int rc = launch(l, err);

	return rc < 0 ? rc : write_files(l, err);
}

static int find_engine(struct life *l, struct lem_error *err)
{
	l->engine = engine_for(l->e);
	if (l->engine)
		return 0;
	lem_fail(err, LEM_E_REFUSED, "this version of lem cannot start %s yet",
		 backend_name(l->e->backend));
	return lem_error_fix(err,
			     "engines it can start: %s; the configuration itself can be checked "
			     "with 'lem config "
			     "validate'",
			     engine_names());
}

/* Workers issue their work at once. */
static int check_traffic(const struct life *l, struct lem_error *err)
{
	if (!l->e->traffic.present || l->engine->http)
		return 0;
	(void)lem_fail(err, LEM_E_REFUSED,
		       "traffic sends requests over time, and %s is not driven as a server",
		       l->engine->name);
	if (l->e->backend == BACKEND_LLAMACPP)
		return lem_error_fix(err, "write llamacpp: {server: true} for llama.cpp's own "
					  "server, or remove traffic");
	return lem_error_fix(err, "remove traffic, or use vllm, sglang, tensorrt, llamacpp with "
				  "server: true, or openai with a server that runs already");
}

static size_t batch_size(const struct experiment *e)
{
	if (e->streaming)
		return 1;
	switch (e->backend) {
	case BACKEND_PYTORCH: return (size_t)(e->pytorch.batch_size * e->pytorch.num_processes);
	case BACKEND_VLLM: return (size_t)e->vllm.max_num_seqs;
	case BACKEND_TENSORRT: return (size_t)e->tensorrt.max_batch_size;
	case BACKEND_SGLANG:
	case BACKEND_OPENAI: return SERVER_BATCH;
	default: return (size_t)e->llamacpp.batch_size;
	}
}

int life_preflight(struct life *l, struct lem_error *err)
{
	int rc;

	host_read(&l->host);
	l->batch = batch_size(l->e);
	l->forced_tokens = forced_tokens(l->e);
	if ((rc = find_engine(l, err)) < 0 || (rc = prompts_load(l->e, &l->prompts, err)) < 0 ||
	    (rc = check_traffic(l, err)) < 0 || (rc = life_server_check(l, err)) < 0 ||
	    (rc = life_bind(l, err)) < 0 || (rc = life_find_model(l, err)) < 0 ||
	    (rc = check_prompts(l, err)) < 0 || (rc = life_check_gpus(l, err)) < 0 ||
	    (rc = make_spec(l, err)) < 0)
		return rc;
	return check_memory(l, err);
}
