/*
 * fake_worker — speaks workers/PROTOCOL.md on a scripted timeline, and can break every rule of it.
 *
 * It computes nothing: a step ends exactly prefill_ms or step_ms after it began (it sleeps that
 * long, and reports the scripted stamps, not measured ones), so what lem must find is known to the
 * nanosecond. Groups of batch_size one after the other; every request gets max_output_tokens.
 *
 * Script: NAME=VALUE arguments, and the same in the environment variable LEM_FAKE_WORKER, separated
 * by blanks.
 *   load_ms=20 prefill_ms=10 step_ms=2   the timeline
 *   tokenizer=1                          0: text is refused with no_tokenizer; 1: a token a word
 *   fault=NAME                           one of the list below; none by default
 *   run=1                                the run in which faults of runs strike, and all later ones
 *   step=2                               the step (from 0) in which faults of steps strike
 *   orphan=0                             1: start a process that outlives us and holds our stdout
 *
 * Faults when loading: load-die (exit 3 with a message), load-vanish (exit 0, not a word),
 * load-hang, load-error, load-bad-json, load-half-line (then end), load-protocol (claims protocol
 * 2), load-bare (an event with nothing in it), load-flood-stderr (endlessly, and no answer). Faults
 * in a step: die (exit 3), killed (SIGKILL on itself), hang, hang-hard (SIGTERM ignored too),
 * error, noise (text lines without end), endless-line, flood-events, flood-steps, flood-stderr (50
 * MB, then goes on), half-line (then end), bad-json, bad-utf8, nul, huge-number, backwards, before,
 * other-run, unknown-id, double-id, missing-step, negative.
 * Faults in `done`: lie-tokens, lie-input, missing, duplicate, extra, short (one token less than
 * asked), after (a step ends after its run), wrong-prefill, done-other-run, done-bad-json,
 * done-twice, finish-error.
 */
#include <jansson.h>
#include <signal.h>

#include "base/clock.h"
#include "base/jsonw.h"
#include "base/num.h"

static struct script {
	int64_t load_ns, prefill_ns, step_ns, run, step, orphan, tokenizer;
	char fault[40];
} script = {
	.load_ns = 20 * NS_PER_MS,
	.prefill_ns = 10 * NS_PER_MS,
	.step_ns = 2 * NS_PER_MS,
	.run = 1,
	.step = 2,
	.tokenizer = 1,
};

static int64_t batch_size = 1, run_number, now_ns, steps_done, out_tokens;

static void script_word(const char *word)
{
	static const struct {
		const char *name;
		int64_t *value, unit;
	} numbers[] = {
		{"load_ms=", &script.load_ns, NS_PER_MS},
		{"prefill_ms=", &script.prefill_ns, NS_PER_MS},
		{"step_ms=", &script.step_ns, NS_PER_MS},
		{"run=", &script.run, 1},
		{"step=", &script.step, 1},
		{"orphan=", &script.orphan, 1},
		{"tokenizer=", &script.tokenizer, 1},
	};

	if (str_starts(word, "fault=")) {
		lem_strlcpy(script.fault, word + 6, sizeof(script.fault));
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		int64_t v;

		if (str_starts(word, numbers[i].name) &&
		    num_parse_i64(word + strlen(numbers[i].name), &v)) {
			*numbers[i].value = v * numbers[i].unit;
			return;
		}
	}
	fprintf(stderr, "fake_worker: cannot follow '%s'\n", word);
	exit(64);
}

static void read_script(int argc, char **argv)
{
	const char *env = getenv("LEM_FAKE_WORKER");
	_cleanup_free_ char *words = lem_strdup(env ? env : "");
	char *rest = words, *word;

	for (int i = 1; i < argc; i++)
		script_word(argv[i]);
	while ((word = strsep(&rest, " ")))
		if (word[0])
			script_word(word);
}

static bool fault(const char *name)
{
	return str_eq(script.fault, name);
}

static void say(const char *fmt, ...) _printf_(1, 2);
static void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	if (fflush(stdout))
		_exit(1);
}

static void hang(bool hard)
{
	if (hard) {
		signal(SIGTERM, SIG_IGN);
		signal(SIGINT, SIG_IGN);
	}
	for (;;)
		pause();
}

static void flood(FILE *f, const char *text)
{
	while (fputs(text, f) >= 0)
		;
	_exit(1);
}

/* Lives for a minute in a session of its own, with our standard output. */
static void leave_orphan(void)
{
	if (fork() == 0) {
		setsid();
		alarm(60);
		hang(false);
	}
}

static void load_faults(void)
{
	if (fault("load-die")) {
		fprintf(stderr, "fake_worker: no room for the weights\n");
		exit(3);
	}
	if (fault("load-vanish"))
		exit(0);
	if (fault("load-hang"))
		hang(false);
	if (fault("load-bad-json"))
		say("{\"event\":\"loaded\",,}\n");
	if (fault("load-half-line")) {
		say("{\"event\":\"loaded\",\"protocol\":1,\"t_sta");
		exit(0);
	}
	if (fault("load-flood-stderr"))
		flood(stderr, "tensor blk.0.attn_q.weight\n");
	if (fault("load-bare"))
		say("{\"event\":\"loaded\"}\n");
	if (fault("load-error")) {
		say("{\"event\":\"error\",\"code\":\"model_load\",\"message\":\"the file is a "
		    "teapot\",\"fatal\":true}\n");
		exit(1);
	}
}

static void on_load(const json_t *j)
{
	int64_t t_start = clock_now_ns();

	batch_size = MAX((int64_t)json_integer_value(json_object_get(j, "batch_size")), INT64_C(1));
	if (script.orphan)
		leave_orphan();
	load_faults();
	clock_sleep_until_ns(t_start + script.load_ns);
	say("{\"event\":\"loaded\",\"protocol\":%d,\"t_start_ns\":%" PRId64 ",\"t_ns\":%" PRId64
	    ",\"engine\":{\"name\":\"fake\",\"version\":\"1\",\"options\":{}},\"model\":"
	    "{\"architecture\":\"llama\",\"name\":\"fake\",\"n_layer\":6,\"n_embd\":288,\"n_ff\":"
	    "768,\"n_head\":6,\"n_head_kv\":6,\"head_dim\":48,\"n_vocab\":32000,\"n_ctx_train\":"
	    "2048,\"n_params\":24407712,\"size_bytes\":26000000,\"quant\":\"Q8_0\","
	    "\"has_tokenizer\":%s,\"weights\":\"synthetic\"},\"devices\":[{\"name\":\"CPU\","
	    "\"uuid\":null}]}\n",
	    fault("load-protocol") ? 2 : 1, t_start, t_start + script.load_ns,
	    script.tokenizer ? "true" : "false");
}

/* Faults that end the story at this step. */
static void fatal_faults(void)
{
	if (fault("die")) {
		fprintf(stderr, "fake_worker: device lost\n");
		exit(3);
	}
	if (fault("killed"))
		raise(SIGKILL);
	if (fault("hang") || fault("hang-hard"))
		hang(fault("hang-hard"));
	if (fault("noise"))
		flood(stdout, "llama_decode: something odd happened here\n");
	if (fault("endless-line"))
		flood(stdout, "{\"event\":\"tokens\",\"ids\":[111111111111111111111111111");
	if (fault("flood-events"))
		flood(stdout, "{\"event\":\"weather\",\"sky\":\"blue\"}\n");
	if (fault("flood-steps"))
		flood(stdout, "{\"event\":\"tokens\",\"run\":1,\"start_ns\":1,\"end_ns\":2,"
			      "\"prefill\":0,\"ids\":[0],\"out\":1}\n");
	if (fault("half-line")) {
		say("{\"event\":\"tokens\",\"run\":1,\"start_ns\":123");
		exit(0);
	}
	if (fault("error")) {
		say("{\"event\":\"error\",\"run\":%" PRId64 ",\"code\":\"compute\",\"message\":"
		    "\"the device melted\",\"fatal\":true}\n",
		    run_number);
		exit(1);
	}
}

/* Faults that add a bad line and let the run go on. */
static void line_faults(void)
{
	if (fault("flood-stderr"))
		for (int i = 0; i < 50 * 1024; i++)
			fprintf(stderr, "%01023d\n", i);
	if (fault("bad-json"))
		say("{\"event\":\"tokens\",\"run\":%" PRId64 ",\"start_ns\":,\"ids\":[}\n",
		    run_number);
	if (fault("bad-utf8"))
		say("{\"event\":\"tokens\",\"text\":\"\xff\xc0\x80\"}\n");
	if (fault("huge-number"))
		say("{\"event\":\"tokens\",\"run\":%" PRId64
		    ",\"start_ns\":99999999999999999999999999,\"end_ns\":1,\"prefill\":0,\"ids\":"
		    "[]}\n",
		    run_number);
	if (fault("negative"))
		say("{\"event\":\"tokens\",\"run\":%" PRId64
		    ",\"start_ns\":-5,\"end_ns\":-1,\"prefill\":-3,\"ids\":[-1]}\n",
		    run_number);
	if (fault("nul")) {
		fwrite("{\"event\":\"tokens\",\"run\":1\0,\"x\":1}\n", 1, 37, stdout);
		say("%s", "");
	}
}

static bool strikes(void)
{
	return run_number >= script.run && steps_done == script.step;
}

static void put_ids(struct jsonw *w, const int64_t *ids, size_t n)
{
	jsonw_array(w, "ids");
	for (size_t i = 0; i < n; i++)
		jsonw_i64(w, NULL, ids[i]);
	if (strikes() && fault("double-id") && n)
		jsonw_i64(w, NULL, ids[0]);
	if (strikes() && fault("unknown-id"))
		jsonw_i64(w, NULL, 999999999);
	jsonw_end_array(w);
}

/* One step of the timeline. */
static void step(int64_t prefill, const int64_t *ids, size_t n)
{
	_cleanup_str_ struct str line = STR_INIT;
	int64_t start = now_ns, shown = start, run = run_number;
	struct jsonw w;

	if (strikes()) {
		fatal_faults();
		line_faults();
		shown = fault("backwards") ? start - NS_PER_S : fault("before") ? 1000 : start;
		run += fault("other-run");
	}
	now_ns += prefill ? script.prefill_ns : script.step_ns;
	clock_sleep_until_ns(now_ns);
	out_tokens += (int64_t)n;
	jsonw_init(&w, &line, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "event", "tokens");
	jsonw_i64(&w, "run", run);
	jsonw_i64(&w, "start_ns", shown);
	jsonw_i64(&w, "end_ns", now_ns + (strikes() && fault("after") ? 10 * NS_PER_S : 0));
	jsonw_i64(&w, "prefill", prefill + (prefill && fault("wrong-prefill") ? 7 : 0));
	put_ids(&w, ids, n);
	jsonw_i64(&w, "out", out_tokens);
	jsonw_end_object(&w);
	if (!(strikes() && fault("missing-step")))
		say("%s\n", str_c(&line));
	steps_done++;
}

struct request {
	int64_t id, input, output;
	bool truncated;
};

static int64_t count_words(const char *text)
{
	int64_t n = 0;

	for (const char *p = text; *p; p++)
		n += *p != ' ' && (p == text || p[-1] == ' ');
	return MAX(n, INT64_C(1));
}

static struct request read_request(const json_t *j, int64_t max_input)
{
	const char *text = json_string_value(json_object_get(j, "text"));
	int64_t n =
		text ? count_words(text) : (int64_t)json_array_size(json_object_get(j, "tokens"));

	return (struct request){
		.id = json_integer_value(json_object_get(j, "id")),
		.input = max_input ? MIN(n, max_input) : n,
		.truncated = max_input && n > max_input,
		.output = json_integer_value(json_object_get(j, "max_output_tokens")) -
			  (fault("short") && run_number >= script.run),
	};
}

/* Prefill of all, which gives everyone's first token; then steps for those that have more to say.
 */
static void run_group(const struct request *q, size_t n)
{
	_cleanup_free_ int64_t *ids = lem_calloc(n, sizeof(*ids));
	int64_t prefill = 0;

	for (size_t i = 0; i < n; i++) {
		prefill += q[i].input;
		ids[i] = q[i].id;
	}
	step(prefill, ids, n);
	for (int64_t token = 1;; token++) {
		size_t k = 0;

		for (size_t i = 0; i < n; i++)
			if (q[i].output > token)
				ids[k++] = q[i].id;
		if (!k)
			return;
		step(0, ids, k);
	}
}

static void put_result(struct jsonw *w, const struct request *q, bool save_text)
{
	bool lies = run_number >= script.run;

	jsonw_object(w, NULL);
	jsonw_i64(w, "id", q->id);
	jsonw_i64(w, "input_tokens", q->input + (lies && fault("lie-input")));
	jsonw_i64(w, "output_tokens", q->output + (lies && fault("lie-tokens")));
	jsonw_str(w, "finish", lies && fault("finish-error") ? "error" : "length");
	jsonw_bool(w, "truncated", q->truncated);
	if (save_text && script.tokenizer)
		jsonw_str(w, "text", " words");
	jsonw_end_object(w);
}

static void say_done(const struct request *q, size_t n, int64_t t_start, bool save_text)
{
	_cleanup_str_ struct str line = STR_INIT;
	bool lies = run_number >= script.run;
	struct request stranger = {.id = 999999999, .input = 1, .output = 1};
	struct jsonw w;

	jsonw_init(&w, &line, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "event", "done");
	jsonw_i64(&w, "run", run_number + (lies && fault("done-other-run")));
	jsonw_i64(&w, "t_start_ns", t_start);
	jsonw_i64(&w, "t_ns", now_ns);
	jsonw_array(&w, "results");
	for (size_t i = 0; i + (lies && fault("missing")) < n; i++)
		put_result(&w, &q[i], save_text);
	if (lies && fault("duplicate"))
		put_result(&w, &q[0], save_text);
	if (lies && fault("extra"))
		put_result(&w, &stranger, save_text);
	jsonw_end_array(&w);
	jsonw_end_object(&w);
	if (lies && fault("done-bad-json"))
		line.buf[line.len - 1] = ']';
	for (int i = 0; i < 1 + (lies && fault("done-twice")); i++)
		say("%s\n", str_c(&line));
}

static void on_run(const json_t *j)
{
	const json_t *list = json_object_get(j, "requests");
	int64_t max_input = json_integer_value(json_object_get(j, "max_input_tokens")), t_start;
	size_t n = json_array_size(list);
	_cleanup_free_ struct request *q = lem_calloc(MAX(n, (size_t)1), sizeof(*q));

	run_number = json_integer_value(json_object_get(j, "run"));
	for (size_t i = 0; i < n; i++) {
		q[i] = read_request(json_array_get(list, i), max_input);
		if (!script.tokenizer && json_object_get(json_array_get(list, i), "text")) {
			say("{\"event\":\"error\",\"run\":%" PRId64 ",\"code\":\"no_tokenizer\","
			    "\"message\":\"no tokenizer\",\"fatal\":false}\n",
			    run_number);
			return;
		}
	}
	steps_done = out_tokens = 0;
	now_ns = t_start = clock_now_ns();
	for (size_t from = 0; from < n; from += (size_t)batch_size)
		run_group(q + from, MIN((size_t)batch_size, n - from));
	say_done(q, n, t_start, json_is_true(json_object_get(j, "save_text")));
}

static bool serve(const char *line)
{
	json_t *j = json_loads(line, 0, NULL);
	const char *op = json_string_value(json_object_get(j, "op"));
	bool stop = str_eq(op, "stop");

	if (str_eq(op, "load"))
		on_load(j);
	else if (str_eq(op, "run"))
		on_run(j);
	else if (!stop)
		say("{\"event\":\"error\",\"code\":\"bad_request\",\"message\":\"what?\","
		    "\"fatal\":false}\n");
	json_decref(j);
	return !stop;
}

int main(int argc, char **argv)
{
	_cleanup_free_ char *line = NULL;
	size_t cap = 0;

	read_script(argc, argv);
	while (getline(&line, &cap, stdin) > 0)
		if (!serve(line))
			break;
	say("{\"event\":\"stopped\",\"t_ns\":%" PRId64 "}\n", clock_now_ns());
	return 0;
}
