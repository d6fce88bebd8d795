#include "doctor/config_checks.h"

#include <sys/timerfd.h>
#include <sys/utsname.h>

#include "gpu/id.h"

static const char group[] = "Configuration";

/* ---- findings ---- */

static enum doctor_status status_of(enum severity s)
{
	return s == SEVERITY_ERROR     ? DOCTOR_ERROR
	       : s == SEVERITY_WARNING ? DOCTOR_WARNING
				       : DOCTOR_OK;
}

static void add_finding(const struct finding *f, struct doctor_report *r)
{
	struct doctor_result one = {
		.id = f->code,
		.group = group,
		.title = f->field && *f->field ? f->field : "the file",
		.status = status_of(f->severity),
	};

	if (f->file && f->line)
		doctor_value(&one, "%s:%d", f->file, f->line);
	else if (f->file || f->origin)
		doctor_value(&one, "%s", f->file ? f->file : f->origin);
	lem_strlcpy(one.message, f->message, sizeof(one.message));
	if (f->suggestion)
		lem_strlcpy(one.fix, f->suggestion, sizeof(one.fix));
	else if (one.status != DOCTOR_OK)
		doctor_fix(&one, "see docs/config-reference.md, or: lem config reference");
	doctor_report_add(r, &one);
}

void doctor_check_findings(const struct config *c, struct doctor_report *r)
{
	const struct finding_list *list = config_findings(c);
	size_t told = 0;

	for (size_t i = 0; i < list->n; i++) {
		if (list->at[i].severity == SEVERITY_INFO)
			continue;
		add_finding(&list->at[i], r);
		told++;
	}
	if (told == 0) {
		struct doctor_result one = {.id = "config", .group = group, .title = "the file"};

		doctor_value(&one, "no findings");
		doctor_report_add(r, &one);
	}
}

/* ---- GPUs ---- */

/* "R06: gpus lists …" → the rule's id; the text goes on behind it. */
static const char *split_rule(const char **text)
{
	char id[4] = "";
	const struct doctor_rule *rule;

	if (strlen(*text) < 5 || (*text)[3] != ':')
		return NULL;
	memcpy(id, *text, 3);
	rule = doctor_rule(id);
	if (!rule)
		return NULL;
	*text += 4;
	*text += strspn(*text, " ");
	return rule->id;
}

static void refuse(const struct lem_error *err, struct doctor_result *one)
{
	const char *what = err->what, *id = split_rule(&what);

	one->id = id ? id : one->id;
	doctor_say(one, DOCTOR_ERROR, "%s%s%s", what, err->why[0] ? ": " : "", err->why);
	doctor_fix(one, "%s", err->fix[0] ? err->fix : "lem gpus lists the GPUs of this host");
}

static void list_chosen(const struct gpu_binding *b, struct doctor_facts *f, struct str *s)
{
	f->chosen = true;
	for (size_t i = 0; i < b->n; i++) {
		if (b->gpus[i].index >= 0 && b->gpus[i].index < DOCTOR_GPUS)
			f->choice[b->gpus[i].index] = true;
		str_addf(s, "%sGPU %d", i ? ", " : "", b->gpus[i].index);
	}
}

void doctor_choose_gpus(struct doctor_facts *f, const struct experiment *e, struct doctor_report *r)
{
	struct doctor_result one = {.id = "gpus-chosen", .group = group, .title = "gpus"};
	_cleanup_str_ struct str s = STR_INIT;
	struct gpu_binding b = {0};
	struct lem_error err = LEM_ERROR_INIT;

	if (e->gpus.n == 0) {
		doctor_value(&one, "none: the CPU");
	} else if (!f->driver->opened) {
		doctor_say(&one, DOCTOR_ERROR, "it lists %zu GPU%s, but the driver told of none",
			   e->gpus.n, e->gpus.n == 1 ? "" : "s");
		doctor_fix(&one, "see Driver below, or write gpus: [] to use the CPU");
	} else if (gpu_resolve(&f->inventory, e->gpus.at, e->gpus.n, f->place.cuda_visible_devices,
			       &f->arena, &b, &err) < 0) {
		refuse(&err, &one);
	} else {
		list_chosen(&b, f, &s);
		doctor_value(&one, "%s", str_c(&s));
	}
	doctor_report_add(r, &one);
}

/* ---- image ---- */

static const char *value_of(const char *const *env, const char *name)
{
	size_t n = strlen(name);

	for (; env && *env; env++)
		if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
			return *env + n + 1;
	return NULL;
}

static int parse_version(const char *text)
{
	int major = 0, minor = 0;

	if (sscanf(text, "%3d.%3d", &major, &minor) < 1 || major < 0 || minor < 0)
		return 0;
	return major * 1000 + minor * 10;
}

int doctor_image_cuda(const char *const *env)
{
	const char *require = value_of(env, "NVIDIA_REQUIRE_CUDA");
	const char *version = value_of(env, "CUDA_VERSION");

	if (require && str_starts(require, "cuda>="))
		return parse_version(require + strlen("cuda>="));
	return version ? parse_version(version) : 0;
}

void doctor_judge_image_cuda(const struct doctor_facts *f, const struct docker_image *image,
			     struct doctor_result *ret)
{
	int wants = doctor_image_cuda(image->env), has = f->driver->cuda_version;

	if (!wants) {
		doctor_say(ret, DOCTOR_UNKNOWN, "the image does not tell its CUDA version");
		return;
	}
	doctor_value(ret, "CUDA %d.%d", wants / 1000, wants % 1000 / 10);
	if (f->driver->opened && !f->driver->n_gpus) {
		doctor_say(ret, DOCTOR_NOT_APPLICABLE, "no NVIDIA GPU in this machine");
	} else if (!has) {
		doctor_say(ret, DOCTOR_UNKNOWN, "the driver does not tell its CUDA version");
	} else if (wants / 1000 > has / 1000) {
		doctor_say(ret, DOCTOR_ERROR, "the image needs CUDA %d.%d, the driver offers %d.%d",
			   wants / 1000, wants % 1000 / 10, has / 1000, has % 1000 / 10);
		doctor_fix(ret, "choose the image for CUDA %d, or update the driver (%s)",
			   has / 1000, f->driver->version);
	} else if (wants > has) {
		doctor_say(
			ret, DOCTOR_WARNING,
			"the image is built for CUDA %d.%d, the driver offers %d.%d: code that is "
			"compiled at run time may not load",
			wants / 1000, wants % 1000 / 10, has / 1000, has % 1000 / 10);
		doctor_fix(ret, "update the driver (%s), or choose an older image",
			   f->driver->version);
	}
}

void doctor_judge_image_arch(const char *machine, const struct docker_image *image,
			     struct doctor_result *ret)
{
	static const struct {
		const char *machine, *image;
	} names[] = {{"x86_64", "amd64"}, {"aarch64", "arm64"}, {"ppc64le", "ppc64le"}};
	const char *own = machine;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_eq(names[i].machine, machine))
			own = names[i].image;
	if (!image->architecture || !*image->architecture) {
		doctor_say(ret, DOCTOR_UNKNOWN, "the image does not tell its architecture");
		return;
	}
	doctor_value(ret, "%s", image->architecture);
	if (str_eq(image->architecture, own))
		return;
	doctor_say(ret, DOCTOR_ERROR, "the image is for %s, this machine is %s: exec format error",
		   image->architecture, own);
	doctor_fix(ret, "docker pull --platform linux/%s IMAGE", own);
}

static int ask_image(struct doctor_facts *f, const char *ref, struct docker_image *ret,
		     struct lem_error *err)
{
	_cleanup_fd_ int deadline = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	struct itimerspec when = {.it_value = {.tv_sec = ASK_TIMEOUT_NS / NS_PER_S}};
	_cleanup_docker_ struct docker *d = NULL;
	int rc;

	timerfd_settime(deadline, 0, &when, NULL);
	rc = docker_open(NULL, deadline, &d, err);
	return rc < 0 ? rc : docker_image(d, ref, &f->arena, ret, err);
}

void doctor_check_image(struct doctor_facts *f, const char *ref, struct doctor_report *r)
{
	struct doctor_result there = {.id = "image", .group = group, .title = "image"};
	struct doctor_result arch = {.id = "X04", .group = group, .title = "image's processor"};
	struct doctor_result cuda = {.id = "R25", .group = group, .title = "image's CUDA"};
	struct docker_image image = {0};
	struct lem_error err = LEM_ERROR_INIT;
	struct utsname uts;

	doctor_value(&there, "%s", ref);
	if (f->engine.answer == ANSWER_ABSENT) {
		doctor_say(&there, DOCTOR_ERROR,
			   "this experiment is started in a container, and there is no container "
			   "engine");
		doctor_fix(&there, "%s; or, where the engine is installed here: runner: process",
			   f->engine.error.fix);
		doctor_report_add(r, &there);
		return;
	}
	if (!doctor_has_engine(f, &there)) {
		doctor_report_add(r, &there);
		return;
	}
	if (ask_image(f, ref, &image, &err) < 0) {
		bool absent = err.code == LEM_E_NOT_FOUND;

		doctor_say(&there, absent ? DOCTOR_NOT_APPLICABLE : DOCTOR_UNKNOWN, "%s%s", ref,
			   absent ? " is not on this host yet, so it cannot be looked into"
				  : ": the container engine did not answer");
		doctor_fix(&there, "docker pull %s", ref);
		doctor_report_add(r, &there);
		return;
	}
	doctor_report_add(r, &there);
	doctor_judge_image_arch(uname(&uts) == 0 ? uts.machine : "", &image, &arch);
	doctor_report_add(r, &arch);
	doctor_judge_image_cuda(f, &image, &cuda);
	doctor_report_add(r, &cuda);
}
