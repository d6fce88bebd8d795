/* The Docker runner while all goes well, and when the engine goes away: facts, checks, a whole
 * life, how it ended, stopping. */
#include <setjmp.h>
#include <sys/eventfd.h>
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

/* ---- facts ---- */

static struct gpu_engine_facts facts(struct fake_docker *f, const char *info, struct arena *a)
{
	struct gpu_engine_facts got;
	struct lem_error err = LEM_ERROR_INIT;

	fake_set_info(f, info);
	if (ops.facts(&calm, a, &got, &err) < 0)
		fail_msg("%s", err.what);
	assert_true(got.asked);
	return got;
}

static void test_facts(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_engine_facts g;

	g = facts(F(state),
		  "{\"CDISpecDirs\":[\"/etc/cdi\"],\"Runtimes\":{\"nvidia\":{}},\"CgroupDriver\":"
		  "\"systemd\",\"DiscoveredDevices\":[{\"Source\":\"cdi\",\"ID\":\"nvidia.com/gpu="
		  "all\"}]}",
		  &a);
	assert_true(g.cdi_on && g.cdi_listed && g.nvidia_runtime && g.systemd_cgroups);
	assert_true(!g.rootless && !g.podman);
	assert_string_equal(g.cdi_devices[0], "nvidia.com/gpu=all");
	g = facts(F(state), "{\"CDISpecDirs\":[\"/etc/cdi\",\"/run/cdi\"],\"Runtimes\":{}}", &a);
	assert_true(g.cdi_on && !g.cdi_listed && !g.nvidia_runtime && !g.systemd_cgroups);
	assert_null(g.cdi_devices); /* the caller reads the folders */
	assert_string_equal(g.cdi_spec_dirs[1], "/run/cdi");
	g = facts(F(state), "{\"CDISpecDirs\":[],\"SecurityOptions\":[\"name=rootless\"]}", &a);
	assert_true(!g.cdi_on && g.rootless);
	assert_null(g.cdi_spec_dirs);
	g = facts(F(state), "{\"BuildahVersion\":\"1.28\",\"Rootless\":true}", &a);
	assert_true(g.podman && g.rootless && g.cdi_on);
	assert_string_equal(g.drops_requests, "of unknown version");
	g = facts(F(state), "{\"BuildahVersion\":\"1.28\",\"ServerVersion\":\"4.3.1\"}", &a);
	assert_string_equal(g.drops_requests, "4.3.1");
	g = facts(F(state), "{\"BuildahVersion\":\"1.39\",\"ServerVersion\":\"5.4.0\"}", &a);
	assert_true(g.podman && !g.drops_requests);
}

static void test_facts_fail(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_engine_facts g = {.podman = true};
	struct lem_error err = LEM_ERROR_INIT;

	fake_set_info(F(state), "oops");
	assert_int_equal(ops.facts(&calm, &a, &g, &err), -LEM_E_PARSE);
	assert_true(g.podman && !g.asked);
	fake_docker_down(F(state));
	assert_int_equal(ops.facts(&calm, &a, &g, &err), -LEM_E_NOT_FOUND);
}

/* ---- check ---- */

static void refuses(const struct launch_spec *s, const char *what, const char *fix)
{
	struct lem_error err = LEM_ERROR_INIT;

	assert_int_equal(ops.check(s, &calm, &err), -LEM_E_REFUSED);
	if (!strstr(err.what, what) || !strstr(err.fix, fix))
		fail_msg("%s / %s", err.what, err.fix);
}

static void test_check(void **state)
{
	struct launch_spec s = case_worker();

	assert_int_equal(ops.check(&s, &calm, NULL), 0);
	assert_int_equal(fake_count(F(state), "POST"), 0); /* changes nothing */
	fake_set_image(F(state), NULL, NULL);
	assert_int_equal(ops.check(&s, &calm, NULL), 0); /* it can be pulled */
	s.pull = "always";
	assert_int_equal(ops.check(&s, &calm, NULL), 0);
	s.pull = "never";
	refuses(&s, "r/engine:1 is not on this host", "docker pull r/engine:1");
	assert_int_equal(fake_count(F(state), "POST"), 0);
}

static void test_check_architecture(void **state)
{
	struct launch_spec s = case_worker();

	fake_set_image(F(state), "{\"Id\":\"sha256:1\",\"Os\":\"linux\",\"Architecture\":\"mips\"}",
		       NULL);
	refuses(&s, "made for mips, this machine is ", "use the image for ");
	fails_to_start(F(state), &s, LEM_E_REFUSED, "made for mips", "");
	fake_set_image(F(state), "{\"Id\":\"sha256:1\",\"Os\":\"windows\"}", NULL);
	refuses(&s, "made for windows, not Linux", "");
	fake_set_image(F(state), "{\"Id\":\"sha256:1\"}", NULL); /* says nothing: let it try */
	assert_int_equal(ops.check(&s, &calm, NULL), 0);
}

static void test_check_spec(void **state)
{
	struct launch_spec s = case_worker();

	(void)state;
	s.image = NULL;
	refuses(&s, "no container image is named for pytorch", "docker: {image:");
	s = case_worker();
	s.env = LIST("CUDA_VISIBLE_DEVICES=3", "CUDA_VISIBLE_DEVICES=0");
	refuses(&s, "R04: env sets CUDA_VISIBLE_DEVICES=3", "remove CUDA_VISIBLE_DEVICES");
	s.env = LIST("NVIDIA_VISIBLE_DEVICES=all");
	refuses(&s, "R02", "list the GPUs in gpus");
	s.env = LIST("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_VISIBLE_DEVICES=0");
	assert_int_equal(ops.check(&s, &calm, NULL), 0);
	s = case_worker();
	s.binds = LIST("/nowhere/at/all:/x:ro");
	refuses(&s, "/nowhere/at/all does not exist", "docker.volumes");
	s.binds = LIST("./here:/x");
	refuses(&s, "'./here:/x' cannot be mounted", "/path/on/the/host");
	s.binds = LIST("/tmp");
	refuses(&s, "cannot be mounted", "");
	s.binds = LIST("/tmp:/x", "volume:/y", "/made/when/it/starts:/z");
	assert_int_equal(ops.check(&s, &calm, NULL), 0);
}

static void test_check_no_engine(void **state)
{
	struct launch_spec s = case_worker();
	struct lem_error err = LEM_ERROR_INIT;

	fake_docker_down(F(state));
	assert_int_equal(ops.check(&s, &calm, &err), -LEM_E_NOT_FOUND);
	assert_non_null(strstr(err.what, "container engine is down"));
}

/* ---- a whole life ---- */

static void test_worker_life(void **state)
{
	struct launch_spec s = case_worker();
	struct running r;
	char buf[128];

	fake_set_program(F(state), (struct fake_program){.echo = true});
	fake_set_pid(F(state), getpid());
	r = case_start(&s);
	assert_int_equal(r.proc.pid, 0);
	assert_int_equal(r.host_pid, getpid());
	assert_string_equal(r.cgroup, ""); /* this test's own names no container */
	assert_string_equal(r.image_digest, "sha256:2222");
	assert_int_equal(r.port, 0);
	assert_int_equal(write(r.proc.in, "load\n", 5), 5);
	assert_int_equal(read_some(r.proc.out, buf, 5), 5);
	assert_memory_equal(buf, "load\n", 5);
	assert_false(ops.wait_until(&r, clock_now_ns()));
	assert_false(ops.wait_until(&r, clock_now_ns() + 100 * NS_PER_MS));
	assert_string_equal(ops.describe_end(&r, buf, sizeof(buf)), "still running");
	assert_int_equal(write(r.proc.in, "exit 3\n", 7), 7);
	assert_true(ops.wait_until(&r, clock_now_ns() + 10 * NS_PER_S));
	assert_true(ops.wait_until(&r, clock_now_ns()));
	assert_string_equal(ops.describe_end(&r, buf, sizeof(buf)), "exit status 3");
	ops.stop(&r, NS_PER_S, -1);
	assert_null(r.image_digest);
	assert_int_equal(r.proc.in, -1);
	assert_string_equal(ops.describe_end(&r, buf, sizeof(buf)), "exit status 3");
	assert_true(ops.wait_until(&r, 0));
	ops.stop(&r, NS_PER_S, -1);
	nothing_left(F(state));
}

/* What is sent is docker_body.h's, secrets and all, and secrets are nowhere else. */
static void test_what_is_sent(void **state)
{
	struct launch_spec s = case_worker();
	struct running r;
	char own[LEASE_SIZE];
	json_t *j, *labels;

	fake_set_program(F(state), (struct fake_program){.runs = true});
	r = case_start(&s);
	assert_string_equal(fake_request(F(state), "POST /containers/create", 0),
			    "POST /containers/create?name=lem-r1");
	j = json_loads(fake_body(F(state), "POST /containers/create", 0), 0, NULL);
	assert_non_null(j);
	labels = json_object_get(j, "Labels");
	assert_string_equal(json_string_value(json_object_get(labels, "lem.owner")),
			    lease_own(own, sizeof(own)));
	assert_string_equal(json_string_value(json_object_get(labels, "lem.gpus.uuid")), CASE_UUID);
	assert_string_equal(json_string_value(json_array_get(json_object_get(j, "Env"), 0)),
			    "HF_TOKEN=" CASE_SECRET);
	assert_true(json_is_true(json_object_get(j, "OpenStdin")));
	assert_true(json_is_true(json_object_get(j, "StdinOnce")));
	json_decref(j);
	ops.stop(&r, NS_PER_S, -1);
	for (size_t i = 0; i < F(state)->n_asked; i++) {
		assert_null(strstr(F(state)->asked[i].line, CASE_SECRET));
		assert_null(strstr(F(state)->asked[i].line, "privileged"));
	}
	/* its streams were there before it was started */
	assert_non_null(strstr(fake_request(F(state), "POST /containers/", 1), "/attach?"));
	assert_non_null(strstr(fake_request(F(state), "POST /containers/", 2), "/start"));
}

static void test_server(void **state)
{
	struct launch_spec s = case_server();
	struct running r;

	fake_set_program(F(state), (struct fake_program){.runs = true});
	r = case_start(&s);
	assert_int_equal(r.port, 32768);
	ops.stop(&r, NS_PER_S, -1);
	s.network = "host";
	r = case_start(&s);
	assert_int_equal(r.port, 8000);
	ops.stop(&r, NS_PER_S, -1);
	nothing_left(F(state));
	fake_on(F(state), "GET /containers/", -1,
		REPLY(200, "{\"State\":{\"Status\":\"running\",\"Pid\":7}}"));
	fake_on(F(state), "GET /containers/json", -1, REPLY(200, "[]"));
	s.network = NULL;
	fails_to_start(F(state), &s, LEM_E_ENGINE, "did not publish the server's port 8000", "");
}

/* ---- how it ended ---- */

static void ends_so(struct fake_docker *f, struct fake_program p, const char *words)
{
	struct launch_spec s = case_worker();
	struct running r;
	char buf[160];

	fake_set_program(f, p);
	r = case_start(&s);
	assert_true(ops.wait_until(&r, clock_now_ns() + 10 * NS_PER_S));
	assert_string_equal(ops.describe_end(&r, buf, sizeof(buf)), words);
	ops.stop(&r, NS_PER_S, -1);
	assert_string_equal(r.end, words);
	nothing_left(f);
}

static void test_ends(void **state)
{
	ends_so(F(state), (struct fake_program){.exit_code = 0}, "exit status 0");
	ends_so(F(state), (struct fake_program){.exit_code = 3}, "exit status 3");
	ends_so(F(state), (struct fake_program){.exit_code = 137}, "killed by signal 9 (Killed)");
	ends_so(F(state), (struct fake_program){.exit_code = 139},
		"killed by signal 11 (Segmentation fault)");
	ends_so(F(state), (struct fake_program){.exit_code = 127},
		"exit status 127 (no such program)");
	ends_so(F(state), (struct fake_program){.exit_code = 126},
		"exit status 126 (a program that cannot be executed)");
	ends_so(F(state), (struct fake_program){.exit_code = 255}, "exit status 255");
	ends_so(F(state), (struct fake_program){.exit_code = 137, .oom_killed = true},
		"killed by the kernel because memory ran out (the container engine says "
		"OOMKilled)");
}

/* ---- stopping ---- */

static void test_stop_gently(void **state)
{
	struct launch_spec s = case_worker();
	struct running r;

	fake_set_program(F(state), (struct fake_program){.runs = true});
	r = case_start(&s);
	ops.stop(&r, 5 * NS_PER_S, -1);
	assert_string_equal(r.end, "killed by signal 15 (Terminated)");
	nothing_left(F(state));
	assert_int_equal(fake_count(F(state), "DELETE /containers/"), 1);
}

static void test_stop_ignores_term(void **state)
{
	struct launch_spec s = case_worker();
	struct running r;

	fake_set_program(F(state), (struct fake_program){.runs = true, .ignores_term = true});
	r = case_start(&s);
	ops.stop(&r, NS_PER_S, -1);
	assert_string_equal(r.end, "killed by signal 9 (Killed)");
	nothing_left(F(state));
}

/* A grace of ten minutes ends at once when it is hurried, before and while it is waited for. */
static void test_stop_hurried(void **state)
{
	struct launch_spec s = case_worker();
	_cleanup_fd_ int hurry = eventfd(1, EFD_CLOEXEC);
	struct running r;
	int64_t t = clock_now_ns();

	fake_set_program(F(state), (struct fake_program){.runs = true, .ignores_term = true});
	r = case_start(&s);
	ops.stop(&r, 600 * NS_PER_S, hurry);
	assert_true(clock_now_ns() - t < 300 * NS_PER_S);
	assert_string_equal(r.end, "killed by signal 9 (Killed)");
	nothing_left(F(state));
}

static void test_stop_hurried_later(void **state)
{
	struct launch_spec s = case_worker();
	int pipe_fds[2];
	struct running r;
	pid_t child;

	fake_set_program(F(state), (struct fake_program){.runs = true, .ignores_term = true});
	r = case_start(&s);
	assert_int_equal(pipe(pipe_fds), 0);
	child = fork();
	if (child == 0) {
		usleep(200000);
		_exit(write(pipe_fds[1], "x", 1) == 1 ? 0 : 1);
	}
	ops.stop(&r, 600 * NS_PER_S, pipe_fds[0]);
	assert_int_equal(fake_count(F(state), "POST /containers/"), 5); /* stop, then kill */
	nothing_left(F(state));
	waitpid(child, NULL, 0);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

/* It has just ended when it is killed: 409, and removed all the same. */
static void test_kill_409(void **state)
{
	struct launch_spec s = case_worker();
	struct running r;

	fake_set_program(F(state), (struct fake_program){.runs = true});
	r = case_start(&s);
	fake_on(F(state), "POST /containers/00000001", -1,
		REPLY(409, "{\"message\":\"container is not running\"}"));
	ops.stop(&r, 0, -1);
	nothing_left(F(state));
}

/* ---- the engine goes away ---- */

static void test_daemon_dies(void **state)
{
	struct launch_spec s = case_worker();
	struct running r;
	char buf[160];

	fake_set_program(F(state), (struct fake_program){.echo = true});
	r = case_start(&s);
	fake_docker_down(F(state));
	assert_int_equal(read_some(r.proc.out, buf, 1), 0); /* its streams end */
	assert_true(ops.wait_until(&r, clock_now_ns() + 10 * NS_PER_S));
	ops.describe_end(&r, buf, sizeof(buf));
	assert_non_null(strstr(buf, "the container engine went away"));
	fake_docker_up(F(state)); /* its containers are there again */
	assert_int_equal(fake_containers(F(state)), 1);
	ops.stop(&r, NS_PER_S, -1);
	assert_non_null(strstr(r.end, "went away"));
	nothing_left(F(state));
}

static void test_daemon_dies_in_wait(void **state)
{
	struct launch_spec s = case_worker();
	struct running r;
	char buf[160];

	fake_set_program(F(state), (struct fake_program){.runs = true});
	fake_on(F(state),
		"POST /containers/0000000100000000000000000000000000000000000000000000000"
		"000000abc/wait",
		-1, HOW(FAKE_CUT, 200, "{\"StatusCode\":0}"));
	r = case_start(&s);
	assert_true(ops.wait_until(&r, clock_now_ns() + 10 * NS_PER_S));
	ops.describe_end(&r, buf, sizeof(buf));
	assert_non_null(strstr(buf, "the container engine went away"));
	assert_non_null(strstr(buf, "broke"));
	ops.stop(&r, 0, -1);
	nothing_left(F(state));
}

static void test_daemon_gone_for_good(void **state)
{
	struct launch_spec s = case_worker();
	struct running r;
	int64_t t;

	fake_set_program(F(state), (struct fake_program){.runs = true});
	r = case_start(&s);
	fake_docker_down(F(state));
	t = clock_now_ns();
	ops.stop(&r, 60 * NS_PER_S, -1); /* bounded */
	assert_true(clock_now_ns() - t < 60 * NS_PER_S);
	assert_null(r.state);
}

static void test_removed_by_others(void **state)
{
	struct launch_spec s = case_worker();
	struct running r;
	char buf[160];

	fake_set_program(F(state), (struct fake_program){.runs = true});
	r = case_start(&s);
	F(state)->containers[0].removed = true;
	assert_true(ops.wait_until(&r, clock_now_ns() + 10 * NS_PER_S));
	assert_string_equal(ops.describe_end(&r, buf, sizeof(buf)),
			    "the container was removed by someone else");
	ops.stop(&r, 0, -1);
}

static void test_registered(void **state)
{
	(void)state;
	assert_ptr_equal(runner_find(RUNNER_DOCKER), &runner_docker);
	assert_true(runner_docker.is_container && !runner_process.is_container);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, docker_case_setup, docker_case_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_facts),
		CASE(test_facts_fail),
		CASE(test_check),
		CASE(test_check_architecture),
		CASE(test_check_spec),
		CASE(test_check_no_engine),
		CASE(test_worker_life),
		CASE(test_what_is_sent),
		CASE(test_server),
		CASE(test_ends),
		CASE(test_stop_gently),
		CASE(test_stop_ignores_term),
		CASE(test_stop_hurried),
		CASE(test_stop_hurried_later),
		CASE(test_kill_409),
		CASE(test_daemon_dies),
		CASE(test_daemon_dies_in_wait),
		CASE(test_daemon_gone_for_good),
		CASE(test_removed_by_others),
		CASE(test_registered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
