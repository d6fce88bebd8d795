/* CDI specifications: what they define, which of two wins, what no longer exists. */
#include <ftw.h>
#include <setjmp.h>
#include <sys/stat.h>

#include "gpu/cdi.h"
#include "sys/fs.h"

#include <cmocka.h>

static const char generated[] = "---\n"
				"cdiVersion: 0.6.0\n"
				"kind: nvidia.com/gpu\n"
				"devices:\n"
				"    - name: \"0\"\n"
				"      containerEdits:\n"
				"        deviceNodes:\n"
				"            - path: /dev/nvidia0\n"
				"    - name: GPU-1a2b3c40-fa4e-4000-8000-000000abcdef\n"
				"      containerEdits:\n"
				"        deviceNodes:\n"
				"            - path: /dev/nvidia0\n"
				"              hostPath: /dev/null\n"
				"containerEdits:\n"
				"    env:\n"
				"        - NVIDIA_VISIBLE_DEVICES=void\n"
				"    mounts:\n"
				"        - hostPath: /etc\n"
				"          containerPath: /etc\n"
				"          options: [ro, nosuid]\n";

static void test_yaml_and_json(void **state)
{
	static const char json[] =
		"{\"cdiVersion\": \"0.6.0\", \"kind\": \"nvidia.com/gpu\", \"devices\":\n"
		"[{\"name\": \"GPU-a\"}, {\"name\": \"1:0\"}, {\"name\": \"all\"}]}";
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct cdi_registry r;
	struct lem_error err = LEM_ERROR_INIT;

	(void)state;
	assert_int_equal(cdi_parse(generated, strlen(generated), "x.yaml", &a, &r, &err), 0);
	assert_int_equal(r.n, 2);
	assert_string_equal(r.at[0].name, "nvidia.com/gpu=0");
	assert_string_equal(r.at[1].name,
			    "nvidia.com/gpu=GPU-1a2b3c40-fa4e-4000-8000-000000abcdef");
	assert_string_equal(r.at[1].spec, "x.yaml");
	assert_null(r.at[0].missing); /* nothing was looked at */
	assert_null(r.problems[0]);
	assert_int_equal(cdi_parse(json, strlen(json), "x.json", &a, &r, &err), 0);
	assert_int_equal(r.n, 3);
	assert_string_equal(r.at[1].name, "nvidia.com/gpu=1:0");
}

static void refuse(const char *text, const char *what, const char *where)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct cdi_registry r = {.n = 99};
	struct lem_error err = LEM_ERROR_INIT;

	assert_true(cdi_parse(text, strlen(text), "s.yaml", &a, &r, &err) < 0);
	assert_int_equal(err.code, LEM_E_PARSE);
	assert_int_equal(r.n, 99);
	assert_true(*err.fix);
	if (!strstr(err.what, what) || !str_eq(err.where, where))
		fail_msg("%s\ngot: %s / %s", text, err.what, err.where);
}

#define HEAD "cdiVersion: 0.6.0\nkind: a.b/c\n"

static void test_bad_specifications(void **state)
{
	(void)state;
	refuse("", "document", "s.yaml");
	refuse("[1, 2]", "not a map", "s.yaml");
	refuse("just text", "not a map", "s.yaml:1:1");
	refuse("kind: a.b/c\ndevices: []\n", "cdiVersion", "s.yaml");
	refuse("cdiVersion: 0.6.0\ndevices: []\n", "(none)", "s.yaml");
	refuse("cdiVersion: 0.6.0\nkind: nvidia\ndevices: []\n", "VENDOR/CLASS: nvidia",
	       "s.yaml:2:7");
	refuse("cdiVersion: 0.6.0\nkind: a/b/c\ndevices: []\n", "VENDOR/CLASS", "s.yaml:2:7");
	refuse("cdiVersion: 0.6.0\nkind: 1a/b\ndevices: []\n", "VENDOR/CLASS", "s.yaml:2:7");
	refuse("cdiVersion: 0.6.0\nkind: a/b.c\ndevices: []\n", "VENDOR/CLASS", "s.yaml:2:7");
	refuse(HEAD, "list of devices", "s.yaml");
	refuse(HEAD "devices: {a: b}\n", "list of devices", "s.yaml");
	refuse(HEAD "devices:\n- {}\n", "device 0 has no name", "s.yaml");
	refuse(HEAD "devices: [text]\n", "device 0 has no name", "s.yaml");
	refuse(HEAD "devices:\n- name: a\n- name: [b]\n", "device 1 has no name", "s.yaml");
	refuse(HEAD "devices:\n- name: \"a b\"\n", "`a b`", "s.yaml:4:10");
	refuse(HEAD "devices:\n- name: a-\n", "`a-`", "s.yaml:4:9");
	refuse(HEAD "devices:\n- name: a\n- name: a\n", "twice", "s.yaml:5:9");
	refuse("cdiVersion: 0.6.0\nkind: &k a.b/c\nx: *k\ndevices: *nothing\n", "list of devices",
	       "s.yaml:4:11");
}

/* A YAML library that hangs on it must not see it. */
static void test_binary_files(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct cdi_registry r;
	struct lem_error err = LEM_ERROR_INIT;

	(void)state;
	assert_true(cdi_parse("%a\0\0\0", 5, "s.yaml", &a, &r, &err) < 0);
	assert_non_null(strstr(err.what, "binary"));
	assert_true(cdi_parse("%:\xc4", 3, "s.yaml", &a, &r, &err) < 0);
	assert_non_null(strstr(err.what, "UTF-8"));
}

static void test_syntax_errors_have_a_place(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	static const char text[] = "cdiVersion: 0.6.0\nkind: [a\ndevices: }\n";
	struct cdi_registry r;
	struct lem_error err = LEM_ERROR_INIT;

	(void)state;
	assert_true(cdi_parse(text, strlen(text), "s.yaml", &a, &r, &err) < 0);
	assert_true(str_starts(err.where, "s.yaml:"));
}

/* ---- folders ---- */

static char dirs[2][64];

static int fresh(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		lem_strlcpy(dirs[i], "/tmp/lem-cdi-XXXXXX", sizeof(dirs[i]));
		assert_non_null(mkdtemp(dirs[i]));
	}
	unsetenv("LEM_CDI_DIRS");
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

static int sweep(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		if (nftw(dirs[i], remove_one, 8, FTW_DEPTH | FTW_PHYS) < 0)
			return -1;
	return 0;
}

static void put(const char *dir, const char *name, const char *text)
{
	_cleanup_free_ char *path = lem_asprintf("%s/%s", dir, name);
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static struct cdi_registry read_both(struct arena *a)
{
	const char *const both[] = {dirs[0], dirs[1], NULL};
	struct cdi_registry r;

	cdi_read(both, a, &r);
	return r;
}

static const struct cdi_device *find(const struct cdi_registry *r, const char *name)
{
	for (size_t i = 0; i < r->n; i++)
		if (str_eq(r->at[i].name, name))
			return &r->at[i];
	return NULL;
}

static void test_what_is_missing(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct cdi_registry r;

	(void)state;
	put(dirs[0], "gpus.yaml",
	    "cdiVersion: 0.6.0\nkind: nvidia.com/gpu\ndevices:\n"
	    "- name: good\n  containerEdits: {deviceNodes: [{path: /dev/null}]}\n"
	    "- name: mapped\n"
	    "  containerEdits: {deviceNodes: [{path: /dev/nowhere, hostPath: /dev/null}]}\n"
	    "- name: node\n  containerEdits: {deviceNodes: [{path: /dev/lem-gone}]}\n"
	    "- name: mount\n"
	    "  containerEdits: {mounts: [{hostPath: /lem-gone/lib.so, containerPath: /x}]}\n"
	    "- name: hook\n"
	    "  containerEdits: {hooks: [{hookName: createContainer, path: /lem-gone/hook}]}\n"
	    "- name: odd\n"
	    "  containerEdits: {deviceNodes: [7, {}, {path: []}, text], mounts: text}\n");
	put(dirs[0], "other.json",
	    "{\"cdiVersion\": \"0.6.0\", \"kind\": \"v.w/x\", \"devices\": [{\"name\": \"one\"}],"
	    " \"containerEdits\": {\"mounts\": [{\"hostPath\": \"/lem-gone/all\","
	    " \"containerPath\": \"/all\"}]}}");
	r = read_both(&a);
	assert_int_equal(r.n, 7);
	assert_null(r.problems[0]);
	assert_null(find(&r, "nvidia.com/gpu=good")->missing);
	assert_null(find(&r, "nvidia.com/gpu=mapped")->missing);
	assert_string_equal(find(&r, "nvidia.com/gpu=node")->missing, "/dev/lem-gone");
	assert_string_equal(find(&r, "nvidia.com/gpu=mount")->missing, "/lem-gone/lib.so");
	assert_string_equal(find(&r, "nvidia.com/gpu=hook")->missing, "/lem-gone/hook");
	assert_null(find(&r, "nvidia.com/gpu=odd")->missing);
	assert_string_equal(find(&r, "v.w/x=one")->missing, "/lem-gone/all");
}

#define SPEC(kind, name) "cdiVersion: 0.6.0\nkind: " kind "\ndevices:\n- name: " name "\n"

static void test_later_folders_win(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct cdi_registry r;

	(void)state;
	put(dirs[0], "a.yaml", SPEC("nvidia.com/gpu", "0"));
	put(dirs[0], "b.yaml", SPEC("nvidia.com/gpu", "1"));
	put(dirs[1], "a.yml", SPEC("nvidia.com/gpu", "0"));
	r = read_both(&a);
	assert_int_equal(r.n, 2);
	assert_true(str_starts(find(&r, "nvidia.com/gpu=0")->spec, dirs[1]));
	assert_true(str_starts(find(&r, "nvidia.com/gpu=1")->spec, dirs[0]));
	assert_null(r.problems[0]);
}

static void test_conflicts_in_one_folder(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct cdi_registry r;

	(void)state;
	put(dirs[0], "a.yaml", SPEC("nvidia.com/gpu", "0"));
	put(dirs[0], "b.yaml", SPEC("nvidia.com/gpu", "0"));
	put(dirs[0], "c.yaml", SPEC("nvidia.com/gpu", "0"));
	r = read_both(&a);
	assert_int_equal(r.n, 0);
	assert_non_null(strstr(r.problems[0], "both define nvidia.com/gpu=0"));
	assert_null(r.problems[1]); /* told once */
	put(dirs[1], "a.yaml", SPEC("nvidia.com/gpu", "0"));
	r = read_both(&a);
	assert_int_equal(r.n, 1); /* the later folder settles it */
}

static void test_what_is_no_specification(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	_cleanup_free_ char *folder = lem_asprintf("%s/folder.yaml", dirs[0]);
	_cleanup_free_ char *dangling = lem_asprintf("%s/dangling.yaml", dirs[0]);
	struct cdi_registry r;

	(void)state;
	put(dirs[0], "README.txt", "not one");
	put(dirs[0], ".hidden.yaml", "not one");
	put(dirs[0], "broken.yaml", "kind: [\n");
	put(dirs[0], "good.yaml", SPEC("nvidia.com/gpu", "0"));
	assert_int_equal(mkdir(folder, 0700), 0);
	assert_int_equal(symlink("/lem-gone", dangling), 0);
	r = read_both(&a);
	assert_int_equal(r.n, 1);
	assert_non_null(strstr(r.problems[0], "broken.yaml"));
	assert_non_null(strstr(r.problems[1], "dangling.yaml"));
	assert_null(r.problems[2]);
}

static void test_folders_of_the_environment(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	_cleanup_free_ char *list = lem_asprintf("/lem-gone:%s:%s", dirs[0], dirs[1]);
	struct cdi_registry r;

	(void)state;
	put(dirs[0], "a.yaml", SPEC("nvidia.com/gpu", "0"));
	setenv("LEM_CDI_DIRS", list, 1);
	cdi_read(NULL, &a, &r);
	assert_int_equal(r.n, 1);
	assert_null(r.problems[0]);
	setenv("LEM_CDI_DIRS", "/lem-gone", 1);
	cdi_read(NULL, &a, &r);
	assert_int_equal(r.n, 0);
	assert_null(r.problems[0]);
}

#define WITH_FOLDERS(f) cmocka_unit_test_setup_teardown(f, fresh, sweep)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_yaml_and_json),
		cmocka_unit_test(test_bad_specifications),
		cmocka_unit_test(test_binary_files),
		cmocka_unit_test(test_syntax_errors_have_a_place),
		WITH_FOLDERS(test_what_is_missing),
		WITH_FOLDERS(test_later_folders_win),
		WITH_FOLDERS(test_conflicts_in_one_folder),
		WITH_FOLDERS(test_what_is_no_specification),
		WITH_FOLDERS(test_folders_of_the_environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
