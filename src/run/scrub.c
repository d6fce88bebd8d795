#include "run/life.h"

extern char **environ;

static const char *value_of(const char *entry)
{
	size_t n = strcspn(entry, "=");

	return entry[n] && config_is_secret(entry, n) ? entry + n + 1 : NULL;
}

static void blot(const char *secret, struct lem_error *err, char *log)
{
	str_blot(log, secret);
	if (!err)
		return;
	str_blot(err->what, secret);
	str_blot(err->where, secret);
	str_blot(err->why, secret);
	str_blot(err->fix, secret);
}

/* An engine may print its environment; a process has lem's own too. */
void life_scrub(const struct life *l, struct lem_error *err, char *log)
{
	const char *const *own = (const char *const *)environ;
	const char *secret;

	for (const char *const *e = l->spec.env; e && *e; e++)
		if ((secret = value_of(*e)))
			blot(secret, err, log);
	for (; !l->runner->is_container && own && *own; own++)
		if ((secret = value_of(*own)))
			blot(secret, err, log);
}
