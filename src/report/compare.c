#include <math.h>

#include "report/pen.h"

/* On a narrow terminal the intervals give way. */
enum { FIGURE_LABEL_WIDTH = 22, FIGURE_WIDTH = 11, INTERVALS_WIDTH = 76 };

static void put_run(struct pen *p, const char *label, const struct compare_run *r)
{
	const struct run_record *rec = r->rec;

	pen_line(p, label, "%s%s%s %s%s%s%s%s", rec->run_id ? rec->run_id : "?", pen_dot(p),
		 rec->engine_name ? rec->engine_name : "?",
		 rec->engine_version ? rec->engine_version : "(never loaded)", pen_dot(p),
		 rec->engine_mode ? rec->engine_mode : "?", pen_dot(p),
		 rec->status == RUN_COMPLETED ? verdict_name(r->sum->verdict.level)
					      : run_status_name(rec->status));
}

static void put_work(struct pen *p, const struct compare_run *a, const struct comparison *c)
{
	const char *hash = a->rec->prompts_hash;

	if (c->same_work)
		pen_line(p, "each",
			 "%" PRId64 " requests, %" PRId64 " tokens in, %" PRId64
			 " out; prompts %.12s",
			 c->a.answered, c->a.input_tokens, c->a.output_tokens, hash ? hash : "?");
	for (size_t i = 0; i < c->n_findings; i++)
		pen_line(p, c->findings[i].differs ? "differs" : "note", "%s", c->findings[i].text);
}

static void put_value(struct pen *p, const struct quantity *q)
{
	double v = fabs(q->value);

	if (!q->known)
		str_addf(p->out, " %*s", FIGURE_WIDTH, "-");
	else
		str_addf(p->out, " %*.*f", FIGURE_WIDTH,
			 v >= 1000  ? 0
			 : v >= 100 ? 1
			 : v >= 10  ? 2
			 : v >= 0.1 ? 3
				    : 6,
			 q->value);
}

static void put_figure(struct pen *p, const struct compare_figure *f)
{
	char label[FIGURE_LABEL_WIDTH + 1];

	if (!f->a.known && !f->b.known)
		return;
	(void)snprintf(label, sizeof(label), "%s, %s", f->label, f->unit);
	str_addf(p->out, "  %s%-*s%s", pen_dim(p), FIGURE_LABEL_WIDTH, label, pen_plain(p));
	put_value(p, &f->a);
	put_value(p, &f->b);
	if (f->ratio.known)
		str_addf(p->out, "  %.4g", f->ratio.value);
	if (f->ratio.known && !isnan(f->ratio.low) && p->width >= INTERVALS_WIDTH)
		str_addf(p->out, " (%.4g to %.4g)", f->ratio.low, f->ratio.high);
	str_addc(p->out, '\n');
}

void report_compare_text(const struct compare_run *a, const struct compare_run *b,
			 const struct comparison *c, const struct report_style *style,
			 struct str *out)
{
	struct pen p;

	pen_init(&p, style, out);
	str_addf(out, "%s%s%s\n", pen_verdict(&p, c->same_work ? "valid" : "invalid"),
		 c->same_work ? "the same work" : "not the same work", pen_plain(&p));
	put_run(&p, "A", a);
	put_run(&p, "B", b);
	put_work(&p, a, c);
	str_addf(out, "\n  %s%-*s %*s %*s  B/A%s%s\n", pen_dim(&p), FIGURE_LABEL_WIDTH, "",
		 FIGURE_WIDTH, "A", FIGURE_WIDTH, "B", p.width >= INTERVALS_WIDTH ? " (95 %)" : "",
		 pen_plain(&p));
	for (size_t i = 0; i < c->n_figures; i++)
		put_figure(&p, &c->figures[i]);
	str_addc(out, '\n');
	pen_line(&p, "how to read",
		 "first token and end to end count from the scheduled time; an interval holds "
		 "what varied within each run, not from run to run: this is no statistical test");
}
