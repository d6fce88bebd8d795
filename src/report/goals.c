#include "report/goals.h"

#include <math.h>

static void put_share(struct pen *p, const struct slo_summary *s)
{
	if (!s->share.known)
		pen_line(p, "good", "not measured: %s", s->share.reason);
	else
		pen_line(p, "good",
			 "%" PRId64 " of %" PRId64 " requests, %.1f %% (%.1f to %.1f %%)", s->good,
			 s->judged, s->share.value * 100, s->share.low * 100, s->share.high * 100);
	if (s->failed)
		pen_line(p, "failed", "%" PRId64 " %s not answered", s->failed,
			 s->failed == 1 ? "was" : "were");
	if (s->untold)
		pen_line(p, "not known",
			 "of %" PRId64 " the server told no token counts, so their time per token "
			 "cannot be judged",
			 s->untold);
}

static void put_limit(struct pen *p, const char *label, double limit_ms, int64_t missed,
		      double met_ms)
{
	char met[64] = "more than 1 % have no answer";

	if (!slo_is_set(limit_ms))
		return;
	if (!isnan(met_ms))
		(void)snprintf(met, sizeof(met), "99 %% stayed within %.5g ms", met_ms);
	pen_line(p, label, "at most %.6g ms: %" PRId64 " missed it; %s", limit_ms, missed, met);
}

static void put_rates(struct pen *p, const struct slo_summary *s)
{
	char requests[24], tokens[24];

	if (!s->requests_per_s.known) {
		pen_line(p, "goodput", "not measured: %s", s->requests_per_s.reason);
		return;
	}
	pen_line(p, "goodput", "%.*f requests/s%s, %.*f output tokens/s%s",
		 s->requests_per_s.value < 10 ? 2 : 1, s->requests_per_s.value,
		 pen_spread(p, &s->requests_per_s, requests, sizeof(requests)),
		 s->output_tokens_per_s.value < 100 ? 1 : 0, s->output_tokens_per_s.value,
		 pen_spread(p, &s->output_tokens_per_s, tokens, sizeof(tokens)));
}

void report_goals(struct pen *p, const struct summary *sum)
{
	const struct slo_summary *s = &sum->slo;

	if (!slo_any(&s->limits))
		return;
	pen_heading(p, s->later ? "Goals, given now" : "Goals");
	put_share(p, s);
	put_limit(p, "first token", s->limits.ttft_ms, s->missed_ttft, s->met_by_99.ttft_ms);
	put_limit(p, "per token", s->limits.tpot_ms, s->missed_tpot, s->met_by_99.tpot_ms);
	put_limit(p, "end to end", s->limits.e2e_ms, s->missed_e2e, s->met_by_99.e2e_ms);
	if (slo_is_set(s->limits.ttft_ms) || slo_is_set(s->limits.e2e_ms))
		pen_line(p, "", "(first token and end to end count from the scheduled time)");
	put_rates(p, s);
	if (s->j_per_request.known) {
		pen_quantity(p, "good request", &s->j_per_request, "J");
		pen_quantity(p, "good token", &s->j_per_output_token, "J");
	}
}
