#include <math.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/progress.h"

enum { SHOW_EVERY_MS = 100 };

static const char *title(enum run_phase p)
{
	switch (p) {
	case PHASE_PREFLIGHT: return "preparing";
	case PHASE_BASELINE: return "idle baseline";
	case PHASE_LOAD: return "loading the model";
	case PHASE_WARMUP: return "warming up";
	case PHASE_BASELINE_RESIDENT: return "idle baseline, engine loaded";
	case PHASE_MEASURE: return "measuring";
	case PHASE_DRAIN: return "draining";
	case PHASE_STOP: return "stopping";
	case PHASE_COUNT: break;
	}
	return "";
}

/* Tenths of a second while that is readable; nothing jumps between units from one moment to the
 * next. */
static char *seconds(int64_t ns, char *buf, size_t size)
{
	if (ns >= 100 * NS_PER_S)
		return num_format_duration(ns, buf, size);
	snprintf(buf, size, "%.1f s", (double)ns / 1e9);
	return buf;
}

static void compose(const struct run_progress *p, struct str *s)
{
	char a[24], b[24];

	if (p->n_levels && p->phase >= PHASE_MEASURE)
		str_addf(s, "load %zu of %zu: ", p->level + 1, p->n_levels);
	str_addf(s, "%s  %s", p->detail[0] ? p->detail : title(p->phase),
		 seconds(p->elapsed_ns, a, sizeof(a)));
	if (p->left_ns >= 0)
		str_addf(s, ", %s left", seconds(p->left_ns, a, sizeof(a)));
	if ((p->phase == PHASE_PREFLIGHT || p->phase == PHASE_LOAD) && p->total)
		str_addf(s, "  %s of %s", num_format_bytes(p->done, a, sizeof(a)),
			 num_format_bytes(p->total, b, sizeof(b)));
	else if (p->phase == PHASE_WARMUP && p->total)
		str_addf(s, "  iteration %" PRIu64 " of at most %" PRIu64, p->done, p->total);
	if (!isnan(p->tokens_per_s))
		str_addf(s, "  %.0f tokens/s", p->tokens_per_s);
	if (!isnan(p->watts))
		str_addf(s, "  %.0f W", p->watts);
}

void progress_show(void *arg, const struct run_progress *p)
{
	struct progress_line *l = arg;
	int64_t now = clock_now_ns();
	bool new_phase = !l->started || l->phase != p->phase || l->level != p->level;
	_cleanup_str_ struct str s = STR_INIT;

	if (l->quiet)
		return;
	if (!l->terminal) {
		if (new_phase && p->n_levels && p->phase == PHASE_MEASURE)
			fprintf(stderr, "lem: %s, load %zu of %zu\n", title(p->phase), p->level + 1,
				p->n_levels);
		else if (new_phase && p->phase != PHASE_PREFLIGHT &&
			 !(p->n_levels && p->phase == PHASE_DRAIN))
			fprintf(stderr, "lem: %s\n", title(p->phase));
	} else if (new_phase || now - l->t_shown_ns > SHOW_EVERY_MS * NS_PER_MS) {
		compose(p, &s);
		fprintf(stderr, "\r%.*s\x1b[K", cli_width(stderr) - 1, str_c(&s));
		fflush(stderr);
		l->t_shown_ns = now;
	}
	l->phase = p->phase;
	l->level = p->level;
	l->started = true;
}

void progress_clear(struct progress_line *l)
{
	if (l->terminal && l->started && !l->quiet)
		fputs("\r\x1b[K", stderr);
}
