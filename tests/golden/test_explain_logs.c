/*
 * What each log of logs/ explains: its first line says which rules, in the order of the text
 * ("expect: R17 X03", or "expect:" alone for a log that must explain nothing). The rest is given to
 * the explainer as it is.
 */
#include <dirent.h>
#include <setjmp.h>

#include "doctor/explain.h"
#include "doctor/known.h"
#include "sys/fs.h"

#include <cmocka.h>

enum { LOGS_MIN = 90, NOTHING_MIN = 5, EXPLANATIONS = 16 };

static struct {
	size_t logs, silent;
	struct str seen; /* " R17 R20…": every id that some log gave */
} all;

static int is_log(const struct dirent *d)
{
	return str_ends(d->d_name, ".log");
}

static void ids_of(const char *text, size_t n, struct str *out)
{
	struct explanation e[EXPLANATIONS];
	size_t found = doctor_explain(text, n, e, ARRAY_LEN(e));

	for (size_t i = 0; i < found; i++) {
		assert_non_null(e[i].title);
		assert_true(*e[i].fix);
		assert_true(*e[i].line);
		str_addf(out, " %s", e[i].id);
	}
}

static bool check_log(const char *path)
{
	_cleanup_str_ struct str log = STR_INIT, ids = STR_INIT;
	struct lem_error err;
	char *body;

	assert_return_code(fs_read_file(path, 1 << 20, &log, &err), 0);
	body = strchr(log.buf, '\n');
	assert_non_null(body);
	*body++ = '\0';
	assert_true(str_starts(log.buf, "expect:"));
	ids_of(body, log.len - (size_t)(body - log.buf), &ids);
	all.logs++;
	all.silent += ids.len == 0;
	str_addf(&all.seen, "%s ", str_c(&ids));
	if (str_eq(str_c(&ids), log.buf + strlen("expect:")))
		return true;
	print_error("%s: expected%s, explained as%s\n", path, log.buf + strlen("expect:"),
		    str_c(&ids));
	return false;
}

static void test_logs(void **state)
{
	_cleanup_free_ char *dir = lem_asprintf("%s/tests/golden/logs", getenv("LEM_SOURCE_ROOT"));
	struct dirent **names = NULL;
	int n = scandir(dir, &names, is_log, alphasort);
	bool ok = true;

	(void)state;
	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *path = lem_asprintf("%s/%s", dir, names[i]->d_name);

		ok &= check_log(path);
		free(names[i]);
	}
	free(names);
	assert_true(ok);
	assert_true(all.logs >= LOGS_MIN);
	assert_true(all.silent >= NOTHING_MIN);
}

/* Every rule that a log can mean has a log here. */
static void test_rules_have_logs(void **state)
{
	bool ok = true;

	(void)state;
	for (size_t i = 0; i < n_known_messages; i++) {
		_cleanup_free_ char *word = lem_asprintf(" %s ", known_messages[i].id);

		if (!strstr(str_c(&all.seen), word)) {
			print_error("%s (%s) has no log\n", known_messages[i].id,
				    known_messages[i].parts[0]);
			ok = false;
		}
	}
	assert_true(ok);
}

static int release(void **state)
{
	(void)state;
	str_release(&all.seen);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_logs),
					   cmocka_unit_test(test_rules_have_logs)};

	return cmocka_run_group_tests(tests, NULL, release);
}
