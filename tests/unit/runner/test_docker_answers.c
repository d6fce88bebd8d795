/* Answers of container engines: real shapes, shapes that lack things, and no shapes at all. */
#include <setjmp.h>

#include "runner/docker_answers.h"

#include <cmocka.h>

static const char docker28[] =
	"{\"ID\":\"x\",\"ServerVersion\":\"28.2.2\",\"OperatingSystem\":\"Debian GNU/Linux 12\","
	"\"Architecture\":\"x86_64\",\"DockerRootDir\":\"/var/lib/docker\",\"NCPU\":64,"
	"\"MemTotal\":540000000000,\"CgroupDriver\":\"systemd\",\"CgroupVersion\":\"2\","
	"\"DefaultRuntime\":\"runc\",\"Runtimes\":{\"runc\":{\"path\":\"runc\"},"
	"\"nvidia\":{\"path\":\"nvidia-container-runtime\"}},"
	"\"SecurityOptions\":[\"name=seccomp,profile=builtin\",\"name=selinux\"],"
	"\"CDISpecDirs\":[\"/etc/cdi\",\"/var/run/cdi\"],"
	"\"DiscoveredDevices\":[{\"Source\":\"cdi\",\"ID\":\"nvidia.com/gpu=GPU-1\"},"
	"{\"Source\":\"other\",\"ID\":\"x\"},{\"ID\":\"y\"},7,"
	"{\"Source\":\"cdi\",\"ID\":\"nvidia.com/gpu=all\"}],\"Warnings\":null,\"New\":[[]]}";

/* podman 4.3, shortened: no CDISpecDirs, words of its own */
static const char podman4[] =
	"{\"ServerVersion\":\"4.3.1\",\"BuildahVersion\":\"1.28.2\",\"Rootless\":true,"
	"\"CgroupDriver\":\"systemd\",\"CgroupVersion\":\"2\",\"SecurityOptions\":"
	"[\"name=seccomp,profile=default\",\"name=rootless\"],\"Runtimes\":"
	"{\"crun\":{\"path\":\"/usr/bin/crun\"}},\"DefaultRuntime\":\"crun\",\"NCPU\":8}";

static void test_info(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct docker_info i;

	(void)state;
	assert_int_equal(docker_parse_info(docker28, &a, &i, NULL), 0);
	assert_string_equal(i.server_version, "28.2.2");
	assert_string_equal(i.cgroup_driver, "systemd");
	assert_string_equal(i.runtimes[1], "nvidia");
	assert_null(i.runtimes[2]);
	assert_string_equal(i.cdi_spec_dirs[0], "/etc/cdi");
	assert_true(i.cdi_listed);
	assert_string_equal(i.cdi_devices[0], "nvidia.com/gpu=GPU-1");
	assert_string_equal(i.cdi_devices[1], "nvidia.com/gpu=all");
	assert_null(i.cdi_devices[2]);
	assert_null(i.warnings[0]);
	assert_true(i.selinux && !i.rootless && !i.podman);
	assert_int_equal(i.n_cpus, 64);
}

static void test_podman_info(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct docker_info i;

	(void)state;
	assert_int_equal(docker_parse_info(podman4, &a, &i, NULL), 0);
	assert_true(i.podman && i.rootless && !i.cdi_listed);
	assert_null(i.cdi_spec_dirs[0]);
	assert_null(i.cdi_devices[0]);
	assert_null(i.root_dir);
}

static void test_old_podman_drops_requests(void **state)
{
	static const struct {
		const char *version;
		bool podman, drops;
	} rows[] = {
		{"4.3.1", true, true},   {"5.3.2", true, true},      {"5.4.0", true, false},
		{"5.10.1", true, false}, {"6.0.0-rc1", true, false}, {NULL, true, true},
		{"odd", true, true},     {"26.1.5", false, false},   {"4.3.1", false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct docker_info info = {.podman = rows[i].podman,
						 .server_version = rows[i].version};

		assert_int_equal(docker_drops_requests(&info), rows[i].drops);
	}
}

/* Wrong types count as absent. */
static void test_info_wrong_types(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct docker_info i;

	(void)state;
	assert_int_equal(docker_parse_info("{\"Runtimes\":[1],\"CDISpecDirs\":{\"a\":1},"
					   "\"SecurityOptions\":\"name=rootless\",\"NCPU\":\"8\","
					   "\"ServerVersion\":7,\"DiscoveredDevices\":3}",
					   &a, &i, NULL),
			 0);
	assert_null(i.runtimes[0]);
	assert_null(i.cdi_spec_dirs[0]);
	assert_null(i.server_version);
	assert_false(i.rootless);
	assert_int_equal(i.n_cpus, 0);
}

static void test_image(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	struct docker_image i;

	(void)state;
	assert_int_equal(
		docker_parse_image("{\"Id\":\"sha256:aa\",\"RepoDigests\":[\"r/x@sha256:bb\"],"
				   "\"Architecture\":\"arm64\",\"Os\":\"linux\",\"Size\":17,"
				   "\"Config\":{\"Env\":[\"A=1\"],\"Entrypoint\":null,"
				   "\"Cmd\":[\"sh\",\"-c\"]}}",
				   &a, &i, NULL),
		0);
	assert_string_equal(i.digest, "sha256:bb");
	assert_string_equal(i.architecture, "arm64");
	assert_string_equal(i.cmd[1], "-c");
	assert_null(i.entrypoint[0]);
	assert_int_equal(
		docker_parse_image("{\"Id\":\"sha256:aa\",\"RepoDigests\":[]}", &a, &i, NULL), 0);
	assert_null(i.digest); /* built here, never pushed */
	assert_int_equal(docker_parse_image("{\"RepoDigests\":[]}", &a, &i, &err), -LEM_E_PARSE);
}

static void test_state(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	struct docker_state s;

	(void)state;
	assert_int_equal(
		docker_parse_state("{\"Image\":\"sha256:aa\",\"State\":{\"Status\":\"exited\","
				   "\"ExitCode\":137,\"OOMKilled\":true,\"Pid\":0,\"Error\":\"\"},"
				   "\"NetworkSettings\":{\"Ports\":{\"9/tcp\":null,\"8000/tcp\":"
				   "[{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"32768\"}]}}}",
				   &a, &s, NULL),
		0);
	assert_int_equal(s.exit_code, 137);
	assert_true(s.oom_killed);
	assert_int_equal(s.host_port, 32768);
	assert_int_equal(docker_parse_state("{\"State\":{\"Status\":\"running\",\"Pid\":7},"
					    "\"NetworkSettings\":{\"Ports\":{\"1/tcp\":"
					    "[{\"HostPort\":\"99999999999\"}]}}}",
					    &a, &s, NULL),
			 0);
	assert_int_equal(s.host_port, 0);
	assert_int_equal(s.pid, 7);
	assert_int_equal(docker_parse_state("{\"State\":{}}", &a, &s, &err), -LEM_E_PARSE);
}

static void test_stats(void **state)
{
	struct docker_stats s;

	(void)state;
	assert_int_equal(
		docker_parse_stats("{\"cpu_stats\":{\"cpu_usage\":{\"total_usage\":1500000000}},"
				   "\"memory_stats\":{\"usage\":100,\"stats\":"
				   "{\"inactive_file\":30}}}",
				   &s, NULL),
		0);
	assert_true(s.cpu_s == 1.5);
	assert_int_equal(s.memory_bytes, 70);
	assert_int_equal(docker_parse_stats("{\"memory_stats\":{\"usage\":100,\"max_usage\":200,"
					    "\"stats\":{\"total_inactive_file\":400}}}",
					    &s, NULL),
			 0);
	assert_int_equal(s.memory_bytes, 100); /* never below zero */
	assert_int_equal(s.memory_peak_bytes, 200);
	assert_int_equal(docker_parse_stats("{}", &s, NULL), 0);
}

static void test_list(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	struct docker_listed *at;
	size_t n;

	(void)state;
	assert_int_equal(docker_parse_list("[{\"Id\":\"aa\",\"Names\":[\"/lem-1\"],\"Labels\":"
					   "{\"lem.run\":\"1\",\"lem.owner\":\"h 1 2\"}},"
					   "{\"Id\":\"../x\"},{\"Names\":[]},7,{\"Id\":\"bb\"}]",
					   &a, &at, &n, NULL),
			 0);
	assert_int_equal(n, 2);
	assert_string_equal(at[0].name, "lem-1");
	assert_string_equal(at[0].lease, "h 1 2");
	assert_string_equal(at[1].name, "");
	assert_null(at[1].lease);
	assert_int_equal(docker_parse_list("{}", &a, &at, &n, &err), -LEM_E_PARSE);
}

static void test_id(void **state)
{
	static const char *const bad[] = {"{\"Id\":\"../../images\"}", "{\"Id\":\"\"}",
					  "{\"Id\":7}", "{}", "[]"};
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	const char *id = NULL;

	(void)state;
	assert_int_equal(docker_parse_id("{\"Id\":\"0aF\",\"Warnings\":[]}", &a, &id, NULL), 0);
	assert_string_equal(id, "0aF");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(docker_parse_id(bad[i], &a, &id, &err), -LEM_E_PARSE);
	assert_string_equal(id, "0aF");
}

static void test_exit_code(void **state)
{
	struct lem_error err = LEM_ERROR_INIT;
	int64_t code = -1;

	(void)state;
	assert_int_equal(docker_parse_exit_code("{\"StatusCode\":3}", &code, NULL), 0);
	assert_int_equal(code, 3);
	assert_int_equal(docker_parse_exit_code("{\"Error\":null}", &code, &err), -LEM_E_PARSE);
	assert_int_equal(code, 3);
}

static void test_message(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	_cleanup_free_ char *longer = lem_calloc(1, 2001);

	(void)state;
	memset(longer, 'x', 2000);
	assert_string_equal(docker_parse_message("{\"message\":\"no such\"}", &a), "no such");
	assert_string_equal(docker_parse_message("plain", &a), "plain");
	assert_string_equal(docker_parse_message("", &a), "no message");
	assert_string_equal(docker_parse_message("<html>502", &a), "no message, but a web page");
	assert_string_equal(docker_parse_message("{\"message\":7}", &a), "{\"message\":7}");
	assert_int_equal(strlen(docker_parse_message(longer, &a)), 400);
}

static void test_pull_lines(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct docker_pull_line l;

	(void)state;
	assert_int_equal(docker_parse_pull_line("{\"status\":\"Downloading\",\"id\":\"aa\","
						"\"progressDetail\":{\"current\":5,\"total\":9}}",
						&a, &l, NULL),
			 0);
	assert_null(l.error);
	assert_int_equal(l.done, 5);
	assert_int_equal(l.total, 9);
	assert_int_equal(docker_parse_pull_line("{\"errorDetail\":{\"message\":\"denied\"},"
						"\"error\":\"x\"}",
						&a, &l, NULL),
			 0);
	assert_string_equal(l.error, "denied");
	assert_int_equal(docker_parse_pull_line("{\"error\":\"x\"}", &a, &l, NULL), 0);
	assert_string_equal(l.error, "x");
	assert_int_equal(docker_parse_pull_line("{\"status\":\"s\",\"progressDetail\":"
						"{\"current\":-5}}",
						&a, &l, NULL),
			 0);
	assert_int_equal(l.done, 0);
}

static void test_no_json(void **state)
{
	static const char *const bad[] = {"",  "<html>", "{",    "[1,",
					  "7", "\"x\"",  "null", "{\"a\":\"\\ud800\"}"};
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct docker_image image;
	struct docker_state s;
	struct docker_stats stats;
	struct docker_info info;
	struct docker_pull_line line;
	struct lem_error err = LEM_ERROR_INIT;
	int64_t code;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(docker_parse_info(bad[i], &a, &info, &err), -LEM_E_PARSE);
		assert_non_null(strstr(err.what, "JSON"));
		assert_int_equal(docker_parse_image(bad[i], &a, &image, &err), -LEM_E_PARSE);
		assert_int_equal(docker_parse_state(bad[i], &a, &s, &err), -LEM_E_PARSE);
		assert_int_equal(docker_parse_stats(bad[i], &stats, &err), -LEM_E_PARSE);
		assert_int_equal(docker_parse_exit_code(bad[i], &code, &err), -LEM_E_PARSE);
		assert_int_equal(docker_parse_pull_line(bad[i], &a, &line, &err), -LEM_E_PARSE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_info),
		cmocka_unit_test(test_podman_info),
		cmocka_unit_test(test_old_podman_drops_requests),
		cmocka_unit_test(test_info_wrong_types),
		cmocka_unit_test(test_image),
		cmocka_unit_test(test_state),
		cmocka_unit_test(test_stats),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_id),
		cmocka_unit_test(test_exit_code),
		cmocka_unit_test(test_message),
		cmocka_unit_test(test_pull_lines),
		cmocka_unit_test(test_no_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
