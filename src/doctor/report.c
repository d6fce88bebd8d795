#include "doctor/report.h"

#include <strings.h>

#include "base/jsonw.h"

void doctor_report_release(struct doctor_report *r)
{
	free(r->at);
	*r = (struct doctor_report){0};
}

void doctor_report_add(struct doctor_report *r, const struct doctor_result *one)
{
	if (r->n == r->cap) {
		r->cap = MAX(2 * r->cap, (size_t)64);
		r->at = lem_reallocarray(r->at, r->cap, sizeof(*r->at));
	}
	r->at[r->n++] = *one;
	r->count[one->status]++;
}

static bool is_asked(const char *const *ids, const char *id)
{
	if (!ids || !*ids)
		return true;
	for (; *ids; ids++)
		if (strcasecmp(*ids, id) == 0)
			return true;
	return false;
}

void doctor_report_run(struct doctor_report *r, const struct doctor_facts *f,
		       const char *const *ids)
{
	for (const struct doctor_check *const *c = doctor_checks; *c; c++) {
		struct doctor_result one;

		if (!is_asked(ids, (*c)->id))
			continue;
		doctor_run(*c, f, &one);
		doctor_report_add(r, &one);
	}
	r->partial |= ids && *ids;
	(void)snprintf(r->about, sizeof(r->about), "%s, %s, %s", f->host.hostname,
		       f->host.os[0] ? f->host.os : "unknown system", f->host.kernel);
}

static void put(struct jsonw *w, const char *key, const char *text)
{
	jsonw_str(w, key, text[0] ? text : NULL);
}

static void put_check(struct jsonw *w, const struct doctor_result *r)
{
	jsonw_object(w, NULL);
	jsonw_str(w, "id", r->id);
	jsonw_str(w, "group", r->group);
	jsonw_str(w, "status", doctor_status_name(r->status));
	jsonw_str(w, "title", r->title);
	put(w, "value", r->value);
	put(w, "message", r->message);
	put(w, "fix", r->fix);
	jsonw_end_object(w);
}

static void put_rule(struct jsonw *w, const struct doctor_rule *r)
{
	_cleanup_str_ struct str where = STR_INIT;

	doctor_where_text(r->where, &where);
	jsonw_object(w, NULL);
	jsonw_str(w, "id", r->id);
	jsonw_str(w, "title", r->title);
	jsonw_str(w, "severity", doctor_severity_name(r->severity));
	jsonw_str(w, "looked_for", str_c(&where));
	jsonw_str(w, "means", r->means);
	jsonw_str(w, "fix", r->fix);
	jsonw_end_object(w);
}

void doctor_report_json(const struct doctor_report *r, const char *const *rules, struct str *out)
{
	struct jsonw w;

	jsonw_init(&w, out, 2);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "schema", "lem.doctor/1");
	jsonw_str(&w, "lem_version", LEM_VERSION);
	put(&w, "host", r->about);
	jsonw_u64(&w, "errors", r->count[DOCTOR_ERROR]);
	jsonw_u64(&w, "warnings", r->count[DOCTOR_WARNING]);
	jsonw_u64(&w, "unknown", r->count[DOCTOR_UNKNOWN]);
	jsonw_array(&w, "checks");
	for (size_t i = 0; i < r->n; i++)
		put_check(&w, &r->at[i]);
	jsonw_end_array(&w);
	jsonw_array(&w, "rules");
	for (size_t i = 0; rules && i < doctor_n_rules; i++)
		if (str_eq(rules[0], "*") || is_asked(rules, doctor_rules[i].id))
			put_rule(&w, &doctor_rules[i]);
	jsonw_end_array(&w);
	jsonw_end_object(&w);
}
