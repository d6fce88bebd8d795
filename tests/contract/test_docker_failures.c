/* The Docker runner when starting fails, what dead lems left, names that are taken, short lives.
 * Whatever happens, every container that was made is removed, and nobody else's is touched. */
#include <setjmp.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <jansson.h>

#include "base/clock.h"
#include "docker_case.h"
#include "fake_docker_impl.h"
#include "runner/lease.h"

#include <cmocka.h>

#define F(state)  (((struct docker_case *)*(state))->f)
#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define ops       runner_docker

/* ---- starting fails ---- */

static void test_gpu_errors(void **state)
{
	static const struct {
		int status;
		const char *body, *what, *fix;
	} rows[] = {
		{400,
		 "{\"message\":\"could not select device driver \\\"nvidia\\\" with capabilities: "
		 "[[gpu]]\"}",
		 "R20", "NVIDIA Container Toolkit"},
		{500,
		 "{\"message\":\"CDI device injection failed: unresolvable CDI devices "
		 "nvidia.com/gpu=GPU-a\"}",
		 "R21", "nvidia-cdi-refresh"},
		{500,
		 "{\"message\":\"CDI device injection failed: failed to stat CDI host device "
		 "/dev/nvidia3: no such file or directory\"}",
		 "R22", "nvidia-cdi-refresh"},
		{400, "{\"message\":\"unknown or invalid runtime name: nvidia\"}", "R03",
		 "nvidia-ctk runtime configure"},
		{500,
		 "{\"message\":\"OCI runtime create failed: nvidia-container-cli: initialization "
		 "error: load library failed: libnvidia-ml.so.1: cannot open\"}",
		 "R23", "install the driver"},
		{500,
		 "{\"message\":\"nvidia-container-cli: requirement error: unsatisfied "
		 "condition: cuda>=13.0\"}",
		 "R25", "docker.image"},
		{500, "{\"message\":\"nvidia-container-cli: device error: GPU-x: unknown device\"}",
		 "R41", "lem gpus"},
		{500, "{\"message\":\"exec /lem/worker: exec format error\"}",
		 "another processor architecture", "docker.image"},
		{400,
		 "{\"message\":\"OCI runtime create failed: exec: \\\"sh\\\": executable file not "
		 "found in $PATH\"}",
		 "no such program", "docker.image"},
		{500, "{\"message\":\"write /var/lib/docker/x: no space left on device\"}",
		 "disk is full", "docker system df"},
		{500, "{\"message\":\"what " CASE_SECRET " is this\"}",
		 "cannot start the container", ""},
		{500, "<html>oops</html>", "cannot start the container (HTTP 500)", ""},
	};
	struct launch_spec s = case_worker();

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char request[128];

		(void)snprintf(request, sizeof(request), "POST /containers/%08zx%056x/start", i + 1,
			       0xabc);
		fake_on(F(state), request, 1, REPLY(rows[i].status, rows[i].body));
		fails_to_start(F(state), &s, LEM_E_ENGINE, rows[i].what, rows[i].fix);
	}
	assert_int_equal(fake_count(F(state), "DELETE /containers/"), ARRAY_LEN(rows));
}

static void test_create_fails(void **state)
{
	struct launch_spec s = case_worker();

	fake_on(F(state), "POST /containers/create", 1,
		REPLY(400, "{\"message\":\"invalid mount config: bind source path does not exist: "
			   "/x\"}"));
	fails_to_start(F(state), &s, LEM_E_ENGINE, "does not exist", "docker.volumes");
	fake_on(F(state), "POST /containers/create", 1,
		REPLY(404, "{\"message\":\"network lan not found\"}"));
	fails_to_start(F(state), &s, LEM_E_NOT_FOUND, "no such network", "docker network ls");
}

/* The answer to create is lost, but the container was made: it is found by its name. */
static void test_lost_create(void **state)
{
	static const enum fake_how ways[] = {FAKE_CUT, FAKE_RAW, FAKE_HANG_UP};
	struct launch_spec s = case_worker();

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		/* a hang-up is asked again over a new connection first */
		fake_on(F(state), "POST /containers/create", ways[i] == FAKE_HANG_UP ? 2 : 1,
			(struct fake_reply){201, "{\"Id\":\"00\"}", ways[i], true});
		fails_to_start(F(state), &s, ways[i] == FAKE_RAW ? LEM_E_PARSE : LEM_E_IO, "", "");
	}
}

/* It was made, asked for again, and is in its own way then: not a name taken. */
static void test_create_twice(void **state)
{
	struct launch_spec s = case_worker();
	struct running r;

	fake_on(F(state), "POST /containers/create", 1,
		(struct fake_reply){201, "", FAKE_HANG_UP, true});
	r = case_start(&s);
	assert_int_equal(fake_containers(F(state)), 1);
	assert_string_equal(fake_request(F(state), "POST /containers/create", 2),
			    "POST /containers/create?name=lem-r1");
	ops.stop(&r, 0, -1);
	nothing_left(F(state));
}

static void test_attach_fails(void **state)
{
	struct launch_spec s = case_worker();

	fake_on(F(state), "POST /containers/0", 1, HOW(FAKE_HANG_UP, 0, ""));
	fails_to_start(F(state), &s, LEM_E_IO, "cannot attach", "");
}

/* The daemon dies while it starts the container, and is back when lem cleans up. */
static void test_dies_at_start(void **state)
{
	struct launch_spec s = case_worker();
	struct lem_error err = LEM_ERROR_INIT;
	struct running r;

	fake_on(F(state),
		"POST /containers/00000001000000000000000000000000000000000000000000000000"
		"00000abc/start",
		2, HOW(FAKE_HANG_UP, 0, ""));
	fake_on(F(state), "DELETE /containers/", 2, HOW(FAKE_HANG_UP, 0, ""));
	assert_int_equal(ops.start(&s, &calm, &r, &err), -LEM_E_IO);
	nothing_left(F(state));
}

static void test_cancel(void **state)
{
	_cleanup_fd_ int cancel = eventfd(0, EFD_CLOEXEC);
	const struct runner_context c = {.cancel_fd = cancel};
	static const char *const at[] = {"GET /containers/json", "GET /images/",
					 "POST /containers/create", "POST /containers/0"};
	struct launch_spec s = case_worker();

	for (size_t i = 0; i < ARRAY_LEN(at); i++) {
		struct lem_error err = LEM_ERROR_INIT;
		struct running r;
		pid_t child;

		fake_on(F(state), at[i], 1,
			(struct fake_reply){.how = FAKE_SILENT, .applied = i == 2});
		child = fork();
		if (child == 0) {
			uint64_t one = 1;

			usleep(150000);
			_exit(write(cancel, &one, sizeof(one)) == sizeof(one) ? 0 : 1);
		}
		assert_int_equal(ops.start(&s, &c, &r, &err), -LEM_E_INTERRUPTED);
		waitpid(child, NULL, 0);
		nothing_left(F(state));
		uint64_t was;

		assert_int_equal(read(cancel, &was, sizeof(was)), sizeof(was));
	}
}

/* ---- images ---- */

struct seen {
	char what[128];
	uint64_t done, total;
};

static void on_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct seen *s = arg;

	lem_strlcpy(s->what, what, sizeof(s->what));
	s->done = done;
	s->total = total;
}

static void test_pull(void **state)
{
	struct seen seen = {.done = 0};
	const struct runner_context c = {.cancel_fd = -1, .progress = on_progress, .arg = &seen};
	struct launch_spec s = case_worker();
	struct running r;

	fake_set_image(F(state), NULL, FAKE_IMAGE);
	assert_int_equal(ops.start(&s, &c, &r, NULL), 0);
	ops.stop(&r, 0, -1);
	assert_string_equal(seen.what, "pulling r/engine:1");
	assert_int_equal(seen.done, 60);
	assert_int_equal(seen.total, 400);
	r = case_start(&s); /* it is there now */
	ops.stop(&r, 0, -1);
	assert_int_equal(fake_count(F(state), "POST /images/create"), 1);
	s.pull = "always";
	r = case_start(&s);
	ops.stop(&r, 0, -1);
	assert_int_equal(fake_count(F(state), "POST /images/create"), 2);
	nothing_left(F(state));
}

static void test_pull_fails(void **state)
{
	static const struct {
		const char *line, *what, *fix;
	} rows[] = {
		{"pull access denied for x, repository does not exist", "needs a login",
		 "docker login"},
		{"manifest for x not found: manifest unknown", "no such tag", "docker.image"},
		{"no matching manifest for linux/amd64", "architecture", "another image"},
		{"toomanyrequests: rate limit", "no more pulls", "wait"},
		{"dial tcp: lookup r: no such host", "cannot reach", "docker load"},
		{"write /x: no space left on device", "disk is full", "docker system df"},
	};
	struct launch_spec s = case_worker();

	fake_set_image(F(state), NULL, FAKE_IMAGE);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_free_ char *body = lem_asprintf(
			"{\"status\":\"Pulling\"}\r\n{\"errorDetail\":{\"message\":\"%s\"}}\r\n",
			rows[i].line);

		fake_on(F(state), "POST /images/create", 1, REPLY(200, body));
		fails_to_start(F(state), &s, LEM_E_IO, rows[i].what, rows[i].fix);
	}
	s.pull = "never";
	fails_to_start(F(state), &s, LEM_E_REFUSED, "not on this host", "docker pull");
	fake_set_image(F(state), NULL, NULL); /* pulled, they say */
	s.pull = "missing";
	fails_to_start(F(state), &s, LEM_E_IO, "was pulled, but is not there", "");
	assert_int_equal(fake_count(F(state), "POST /containers/create"), 0);
}

/* ---- leftovers ---- */

/* The lease of a process that has ended. */
static char *dead_lease(char *buf, size_t size)
{
	int fds[2];
	pid_t child;

	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (child == 0) {
		lease_own(buf, size);
		_exit(write(fds[1], buf, LEASE_SIZE) == LEASE_SIZE ? 0 : 1);
	}
	assert_int_equal(read(fds[0], buf, LEASE_SIZE), LEASE_SIZE);
	waitpid(child, NULL, 0);
	close(fds[0]);
	close(fds[1]);
	return buf;
}

static void test_leases(void **state)
{
	char own[LEASE_SIZE], dead[LEASE_SIZE] = "", other[LEASE_SIZE];

	(void)state;
	lease_own(own, sizeof(own));
	dead_lease(dead, sizeof(dead));
	assert_true(lease_is_own(own));
	assert_false(lease_is_dead(own));
	assert_true(lease_is_dead(dead));
	assert_false(lease_is_own(dead));
	(void)snprintf(other, sizeof(other), "%.*s %ld 1", (int)strcspn(own, " "), own,
		       (long)getpid());
	assert_true(lease_is_dead(other)); /* the number was given again */
	(void)snprintf(other, sizeof(other), "elsewhere/pid:[1]%s", strchr(dead, ' '));
	assert_false(lease_is_dead(other));
	(void)snprintf(other, sizeof(other), "%.*s 1x 1", (int)strcspn(own, " "), own);
	assert_false(lease_is_dead(other));
	(void)snprintf(other, sizeof(other), "%.*s -1 1", (int)strcspn(own, " "), own);
	assert_false(lease_is_dead(other));
	(void)snprintf(other, sizeof(other), "%.100s more", dead);
	assert_false(lease_is_dead(other));
	assert_false(lease_is_dead(NULL));
	assert_false(lease_is_dead(""));
}

static void test_sweep(void **state)
{
	struct launch_spec s = case_worker();
	char own[LEASE_SIZE], dead[LEASE_SIZE] = "";
	struct running r;

	lease_own(own, sizeof(own));
	fake_add_container(F(state), "dead1", "lem-old", dead_lease(dead, sizeof(dead)));
	fake_add_container(F(state), "dead2", "lem-old2", dead);
	fake_add_container(F(state), "a11ve", "lem-other", own);
	fake_add_container(F(state), "e15e", "lem-elsewhere", "elsewhere/pid:[1] 1 1");
	fake_add_container(F(state), "0dd", "lem-odd", "");
	fake_add_container(F(state), "f0e", "postgres", NULL);
	r = case_start(&s);
	assert_false(fake_has_container(F(state), "dead1"));
	assert_false(fake_has_container(F(state), "dead2"));
	assert_true(fake_has_container(F(state), "a11ve"));
	assert_true(fake_has_container(F(state), "e15e"));
	assert_true(fake_has_container(F(state), "0dd"));
	assert_true(fake_has_container(F(state), "f0e"));
	ops.stop(&r, 0, -1);
	assert_int_equal(fake_containers(F(state)), 4);
}

/* Before a run looks at the GPUs: what a killed lem's engine holds would be in its way (R26). */
static void test_tidy(void **state)
{
	char dead[LEASE_SIZE] = "";

	fake_add_container(F(state), "dead1", "lem-old", dead_lease(dead, sizeof(dead)));
	fake_add_container(F(state), "f0e", "postgres", NULL);
	ops.tidy(&calm);
	assert_false(fake_has_container(F(state), "dead1"));
	assert_true(fake_has_container(F(state), "f0e"));
	fake_docker_down(F(state));
	ops.tidy(&calm); /* nobody answers */
}

static void test_name_taken(void **state)
{
	struct launch_spec s = case_worker();
	struct running r;

	/* someone's own, without a label of lem's */
	fake_add_container(F(state), "f0e", "lem-r1", NULL);
	/* another lem's that lives (this test's parent, say) */
	fake_add_container(F(state), "e15e", "lem-r1-2", "elsewhere/pid:[1] 1 1");
	r = case_start(&s);
	assert_string_equal(fake_request(F(state), "POST /containers/create", 2),
			    "POST /containers/create?name=lem-r1-3");
	ops.stop(&r, 0, -1);
	assert_int_equal(fake_containers(F(state)), 2);
}

/* The sweep missed it (it could not be listed then), the name brings it up again. */
static void test_name_of_the_dead(void **state)
{
	struct launch_spec s = case_worker();
	char dead[LEASE_SIZE] = "";
	struct running r;

	fake_add_container(F(state), "dead", "lem-r1", dead_lease(dead, sizeof(dead)));
	fake_on(F(state), "GET /containers/json", 1, REPLY(500, "{}"));
	r = case_start(&s);
	assert_false(fake_has_container(F(state), "dead"));
	assert_string_equal(fake_request(F(state), "POST /containers/create", 1),
			    "POST /containers/create?name=lem-r1");
	ops.stop(&r, 0, -1);
	nothing_left(F(state));
}

static void test_every_name_taken(void **state)
{
	struct launch_spec s = case_worker();
	struct lem_error err = LEM_ERROR_INIT;
	struct running r;

	fake_on(F(state), "POST /containers/create", -1,
		REPLY(409, "{\"message\":\"Conflict. The container name is already in use\"}"));
	assert_int_equal(ops.start(&s, &calm, &r, &err), -LEM_E_ENGINE);
	assert_non_null(strstr(err.why, "already in use"));
	assert_int_equal(fake_count(F(state), "POST /containers/create"), 9);
}

static void test_odd_run_ids(void **state)
{
	struct launch_spec s = case_worker();
	struct running r;
	char want[96];

	s.run_id = "a/b c:d";
	r = case_start(&s);
	assert_string_equal(fake_request(F(state), "POST /containers/create", 0),
			    "POST /containers/create?name=lem-a-b-c-d");
	ops.stop(&r, 0, -1);
	s.run_id = NULL;
	r = case_start(&s);
	(void)snprintf(want, sizeof(want), "POST /containers/create?name=lem-%ld", (long)getpid());
	assert_string_equal(fake_request(F(state), "POST /containers/create", 1), want);
	ops.stop(&r, 0, -1);
}

/* What may be written and is not there is made as the user. */
static void test_folders(void **state)
{
	struct docker_case *c = *state;
	_cleanup_free_ char *folder = lem_asprintf("%s/cache/hub", c->dir);
	_cleanup_free_ char *bind = lem_asprintf("%s:/root/.cache", folder);
	struct launch_spec s = case_worker();
	struct running r;
	struct stat st;

	s.binds = LIST(bind);
	r = case_start(&s);
	assert_int_equal(stat(folder, &st), 0);
	assert_true(S_ISDIR(st.st_mode) && st.st_uid == geteuid());
	ops.stop(&r, 0, -1);
	(void)rmdir(folder);
	folder[strlen(folder) - 4] = '\0';
	(void)rmdir(folder);
}

/* ---- once ---- */

struct once {
	struct str out, log;
	int status;
	struct lem_error err;
};

static int run_once(struct fake_docker *f, struct once *o, struct fake_program p,
		    int64_t timeout_ns)
{
	struct launch_spec s = case_server();

	*o = (struct once){.status = -77};
	s.binds = LIST("/tmp:/tmp");
	fake_set_program(f, p);
	return ops.run_once(&s, LIST("/lem/probe", "--json"), LIST("/opt/probe:/lem/probe:ro"),
			    timeout_ns, &calm, &o->out, &o->log, &o->status, &o->err);
}

static void once_release(struct once *o)
{
	str_release(&o->out);
	str_release(&o->log);
}

static const char two_frames[] = "\1\0\0\0\0\0\0\3{}\n\2\0\0\0\0\0\0\4log\n";
#define SAYS .frames = two_frames, .n_frames = sizeof(two_frames) - 1

static void test_once(void **state)
{
	struct once o;
	const char *body;

	assert_int_equal(run_once(F(state), &o, (struct fake_program){SAYS}, 10 * NS_PER_S), 0);
	assert_int_equal(o.status, 0);
	assert_string_equal(str_c(&o.out), "{}\n");
	assert_string_equal(str_c(&o.log), "log\n");
	once_release(&o);
	nothing_left(F(state));
	assert_string_equal(fake_request(F(state), "POST /containers/create", 0),
			    "POST /containers/create?name=lem-r1-once");
	body = fake_body(F(state), "POST /containers/create", 0);
	assert_non_null(strstr(body, "\"Entrypoint\":[\"/lem/probe\"],\"Cmd\":[\"--json\"]"));
	assert_non_null(strstr(body, "\"Binds\":[\"/tmp:/tmp\",\"/opt/probe:/lem/probe:ro\"]"));
	assert_non_null(strstr(body, "nvidia.com/gpu=" CASE_UUID)); /* the same devices */
	assert_null(strstr(body, "PortBindings"));
	assert_non_null(strstr(body, "\"OpenStdin\":false"));
}

static void test_once_fails(void **state)
{
	struct once o;

	assert_int_equal(
		run_once(F(state), &o, (struct fake_program){SAYS, .exit_code = 4}, 10 * NS_PER_S),
		0);
	assert_int_equal(o.status, 4);
	once_release(&o);
	assert_int_equal(
		run_once(F(state), &o, (struct fake_program){.runs = true}, 300 * NS_PER_MS),
		-LEM_E_TIMEOUT);
	assert_int_equal(o.status, -77);
	assert_non_null(strstr(o.err.what, "/lem/probe in a container of r/engine:1"));
	once_release(&o);
	nothing_left(F(state));
}

static void be_slow(void *arg, const char *what, uint64_t done, uint64_t total)
{
	(void)arg, (void)what, (void)done, (void)total;
	clock_sleep_until_ns(clock_now_ns() + 400 * NS_PER_MS);
}

/* Its time begins when it runs: an image may take long to come. */
static void test_once_after_a_pull(void **state)
{
	const struct runner_context slow = {.cancel_fd = -1, .progress = be_slow};
	struct launch_spec s = case_server();
	struct once o = {.status = -77};

	fake_set_image(F(state), NULL, FAKE_IMAGE);
	fake_set_program(F(state), (struct fake_program){SAYS});
	assert_int_equal(ops.run_once(&s, LIST("/lem/probe"), NULL, 700 * NS_PER_MS, &slow, &o.out,
				      &o.log, &o.status, &o.err),
			 0);
	assert_string_equal(str_c(&o.out), "{}\n");
	once_release(&o);
	nothing_left(F(state));
}

/* The daemon dies: not "exit status 0". */
static void test_once_lost(void **state)
{
	struct once o;

	fake_on(F(state),
		"POST /containers/0000000100000000000000000000000000000000000000000000000"
		"000000abc/wait",
		2, HOW(FAKE_HANG_UP, 0, ""));
	assert_int_equal(run_once(F(state), &o, (struct fake_program){SAYS}, 10 * NS_PER_S),
			 -LEM_E_ENGINE);
	assert_non_null(strstr(o.err.what, "went away"));
	assert_int_equal(o.status, -77);
	once_release(&o);
	nothing_left(F(state));
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, docker_case_setup, docker_case_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_gpu_errors),
		CASE(test_create_fails),
		CASE(test_lost_create),
		CASE(test_create_twice),
		CASE(test_attach_fails),
		CASE(test_dies_at_start),
		CASE(test_cancel),
		CASE(test_pull),
		CASE(test_pull_fails),
		CASE(test_leases),
		CASE(test_sweep),
		CASE(test_tidy),
		CASE(test_name_taken),
		CASE(test_name_of_the_dead),
		CASE(test_every_name_taken),
		CASE(test_odd_run_ids),
		CASE(test_folders),
		CASE(test_once),
		CASE(test_once_fails),
		CASE(test_once_after_a_pull),
		CASE(test_once_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
