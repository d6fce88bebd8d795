/* Every reader of a container engine's answers, on the same bytes; then what an error makes of
 * them. */
#include "runner/docker_answers.h"
#include "runner/docker_explain.h"
#include "runner/owns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_list(const char *text, struct arena *a)
{
	struct docker_listed *at;
	struct lem_error err;
	size_t n;

	if (docker_parse_list(text, a, &at, &n, &err) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		assert(*at[i].id && !strpbrk(at[i].id, "/?. %") && at[i].name);
}

static void check_small(const char *text, struct arena *a)
{
	struct docker_pull_line line;
	struct docker_stats stats;
	struct docker_state state;
	struct lem_error err;
	const char *id;
	int64_t code;

	if (docker_parse_state(text, a, &state, &err) >= 0)
		assert(state.status && state.host_port >= 0 && state.host_port < 65536);
	if (docker_parse_id(text, a, &id, &err) >= 0)
		assert(*id && !strpbrk(id, "/?. %"));
	(void)docker_parse_stats(text, &stats, &err);
	(void)docker_parse_pull_line(text, a, &line, &err);
	(void)docker_parse_exit_code(text, &code, &err);
}

static void check_error(const char *text, struct arena *a)
{
	const struct launch_spec spec = {.env = (const char *const[]){"T=aaa", NULL},
					 .secrets = (const char *const[]){"T", NULL}};
	const char *message = docker_parse_message(text, a);
	struct lem_error err;
	char cgroup[64];

	assert(message && strlen(message) <= 400);
	(void)lem_fail(&err, LEM_E_ENGINE, "x");
	(void)lem_error_why(&err, "%s", message);
	assert(docker_explain(&err) == -LEM_E_ENGINE);
	docker_scrub(&spec, &err);
	assert(!strstr(err.why, "aaa"));
	(void)owns_cgroup_text(text, "/a");
	if (owns_container_cgroup(text, "ab", cgroup, sizeof(cgroup)))
		assert(cgroup[0] == '/' && strstr(cgroup, "ab"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	_cleanup_free_ char *text = lem_strndup((const char *)data, size);
	struct docker_image image;
	struct docker_info info;
	struct lem_error err;

	if (docker_parse_info(text, &a, &info, &err) >= 0)
		assert(info.runtimes && info.cdi_spec_dirs && info.cdi_devices && info.warnings);
	if (docker_parse_image(text, &a, &image, &err) >= 0)
		assert(image.id && image.env && image.cmd && image.entrypoint);
	check_list(text, &a);
	check_small(text, &a);
	check_error(text, &a);
	return 0;
}
