#include <math.h>

#include "report/pen.h"

enum { NAME_MAX_WIDTH = 40 };

/* Padded by columns, not bytes. */
static void put_padded(const struct pen *p, const char *text, size_t width)
{
	size_t columns = pen_clean(p, text, p->out);

	str_addf(p->out, "%*s", columns < width ? (int)(width - columns) : 0, "");
}

static size_t columns_of(const struct pen *p, const char *text)
{
	_cleanup_str_ struct str s = STR_INIT;

	return pen_clean(p, text, &s);
}

/* A verdict has its colour; everything that is none is red, but for what only waits. */
static const char *outcome_color(const struct pen *p, const char *outcome)
{
	return str_eq(outcome, "ready") ? "" : pen_verdict(p, outcome);
}

static const char *gpus_of(const struct report_cell *cell)
{
	if (!cell->gpus)
		return "-";
	return *cell->gpus ? cell->gpus : "CPU";
}

static void put_cell(struct pen *p, const struct report_cell *cell, size_t name_width)
{
	char joules[32], rate[32] = "-";

	if (cell->output_tokens_per_s.known)
		(void)snprintf(rate, sizeof(rate), "%.1f", cell->output_tokens_per_s.value);
	report_scaled(cell->j_per_output_token.known ? cell->j_per_output_token.value : (double)NAN,
		      "J", true, joules, sizeof(joules));
	put_padded(p, cell->name, name_width);
	str_addf(p->out, "  %-9s %-8s %-7s %s%-11s%s %10s %12s%s%s\n", cell->engine,
		 cell->where ? cell->where : "-", gpus_of(cell), outcome_color(p, cell->outcome),
		 cell->outcome, pen_plain(p), rate, joules, *cell->run_id ? "  " : "",
		 cell->run_id);
	if (*cell->error) {
		str_add(p->out, "    ");
		pen_clean(p, cell->error, p->out);
		str_addc(p->out, '\n');
	}
}

void report_cells_text(const struct report_cell *cells, size_t n, const struct report_style *style,
		       struct str *out)
{
	size_t name_width = strlen("experiment");
	struct pen p;

	pen_init(&p, style, out);
	for (size_t i = 0; i < n; i++)
		name_width =
			MAX(name_width, MIN(columns_of(&p, cells[i].name), (size_t)NAME_MAX_WIDTH));
	str_addf(out, "%s%-*s  %-9s %-8s %-7s %-11s %10s %12s  %s%s\n", pen_dim(&p),
		 (int)name_width, "experiment", "engine", "where", "GPUs", "outcome", "out tok/s",
		 "J/out token", "run", pen_plain(&p));
	for (size_t i = 0; i < n; i++)
		put_cell(&p, &cells[i], name_width);
}
