/* traffic.rates, traffic.concurrencies and traffic.ramp_to_rate: what makes no sense together. */
#include "config/impl.h"

#include <math.h>

enum { LOADS_MAX = 64 };

static struct finding *say(struct config *c, const char *code, const char *field, const char *what)
{
	return finding_add(c, SEVERITY_ERROR, code, field, config_where(c, field), "%s", what);
}

bool check_loads_are_listed(const struct config *c)
{
	const struct traffic_config *t = &c->exp.traffic;

	return t->rates.n || t->concurrencies.n || config_invalid(c, "traffic.rates") ||
	       config_invalid(c, "traffic.concurrencies");
}

/* Exactly one of the four says how much is sent. */
static void check_one_load(struct config *c)
{
	const struct traffic_config *t = &c->exp.traffic;
	const char *list = t->rates.n ? "traffic.rates" : "traffic.concurrencies";

	if (t->rates.n && t->concurrencies.n)
		finding_hint(c,
			     say(c, "C14", "traffic.concurrencies",
				 "lists closed loops, traffic.rates lists open ones"),
			     "remove one of the two; two experiments measure both");
	if (t->rate.set || t->concurrency.set)
		finding_hint(c,
			     finding_add(c, SEVERITY_ERROR, "C14", list, config_where(c, list),
					 "lists several loads, traffic.%s asks for one",
					 t->rate.set ? "rate" : "concurrency"),
			     "remove one of the two");
	if (t->rates.n && t->arrival == TRAFFIC_TRACE)
		finding_hint(c,
			     say(c, "C14", "traffic.rates",
				 "is not used with arrival: trace, whose times are recorded"),
			     "remove it, or choose another arrival");
	if (MAX(t->rates.n, t->concurrencies.n) > LOADS_MAX)
		finding_hint(c,
			     finding_add(c, SEVERITY_ERROR, "C03", list, config_where(c, list),
					 "lists %zu loads, more than %d",
					 MAX(t->rates.n, t->concurrencies.n), LOADS_MAX),
			     "spread them over several experiments");
}

static void check_whole(struct config *c)
{
	const struct f64_list *l = &c->exp.traffic.concurrencies;
	struct finding *f;

	for (size_t i = 0; i < l->n; i++) {
		if (l->at[i] == floor(l->at[i]))
			continue;
		f = finding_add(c, SEVERITY_ERROR, "C02", "traffic.concurrencies",
				config_where(c, "traffic.concurrencies"),
				"must list whole numbers of requests, has %g", l->at[i]);
		finding_hint(c, f, "write %.0f", floor(l->at[i]));
	}
}

static void check_only_for_lists(struct config *c)
{
	const struct traffic_config *t = &c->exp.traffic;

	if (!check_loads_are_listed(c) && config_written(c, "traffic.settle_sec"))
		finding_hint(c,
			     say(c, "C13", "traffic.settle_sec",
				 "is only used between the loads of rates or concurrencies"),
			     "remove it, or list several loads");
	if (!t->rates.n && !config_invalid(c, "traffic.rates") && t->stop_when_overloaded)
		finding_hint(c,
			     say(c, "C13", "traffic.stop_when_overloaded",
				 "is only used with rates: a closed loop never asks for more than "
				 "the server gives"),
			     "remove it, or list rates");
}

/* A rate that changes while it is measured. */
static void check_ramp(struct config *c)
{
	const struct traffic_config *t = &c->exp.traffic;

	if (!t->ramp_to_rate.set) {
		if (t->ramp_over_sec.set && !config_invalid(c, "traffic.ramp_to_rate"))
			finding_hint(c,
				     say(c, "C13", "traffic.ramp_over_sec",
					 "is only used with ramp_to_rate"),
				     "remove it, write ramp_to_rate too, or write ramp_sec for "
				     "requests that are sent but not counted");
		return;
	}
	if (!t->rate.set || t->concurrency.set || t->arrival == TRAFFIC_TRACE)
		finding_hint(c,
			     say(c, "C14", "traffic.ramp_to_rate",
				 "changes the rate of an open loop, but there is no one rate to "
				 "begin with"),
			     "write rate: the requests/s at the start, without trace, "
			     "concurrency, rates or concurrencies");
	else if (!t->ramp_over_sec.set && !t->duration_sec.set &&
		 !config_invalid(c, "traffic.duration_sec"))
		finding_hint(c,
			     say(c, "C05", "traffic.ramp_over_sec",
				 "is missing, and duration_sec too: how long the change takes is "
				 "not said"),
			     "write ramp_over_sec or duration_sec");
	else if (t->ramp_over_sec.set && t->duration_sec.set &&
		 t->ramp_over_sec.v > t->duration_sec.v)
		finding_hint(c,
			     say(c, "C14", "traffic.ramp_over_sec",
				 "is longer than duration_sec: ramp_to_rate would never be "
				 "reached"),
			     "shorten it, or send for longer");
}

/* Workers issue their work at once; only servers are asked over time. */
static void check_is_server(struct config *c)
{
	const struct experiment *e = &c->exp;

	if (config_invalid(c, "backend") || config_invalid(c, "llamacpp.server"))
		return;
	if (e->backend == BACKEND_LLAMACPP && !e->llamacpp.server)
		finding_hint(c,
			     say(c, "C14", "traffic",
				 "sends requests over time, but the embedded llama.cpp gets its "
				 "work at once"),
			     "write llamacpp: {server: true} for llama.cpp's own server, or "
			     "remove traffic");
	else if (e->backend == BACKEND_PYTORCH)
		finding_hint(c,
			     say(c, "C14", "traffic",
				 "sends requests over time, but the PyTorch worker gets its work "
				 "at once"),
			     "remove traffic, or use vllm, sglang, tensorrt, llamacpp with "
			     "server: true, or openai with a server that runs already");
}

/* Times that are recorded leave nothing to choose. */
static void check_recorded(struct config *c)
{
	const struct traffic_config *t = &c->exp.traffic;

	if (t->arrival != TRAFFIC_TRACE)
		return;
	if (t->rate.set)
		finding_hint(c,
			     say(c, "C14", "traffic.rate",
				 "is not used with arrival: trace, whose times are recorded"),
			     "remove it, or choose another arrival; trace_scale: 0.5 replays a "
			     "trace twice as fast");
	if (t->trace && !config_invalid(c, "traffic.trace"))
		check_readable(c, "traffic.trace", t->trace, "text file with one time a line");
}

/* The window of traffic is as long as requests arrive. */
static void check_window(struct config *c)
{
	if (c->exp.window.min_duration_sec > 0 && config_written(c, "window.min_duration_sec"))
		finding_hint(c,
			     finding_add(c, SEVERITY_WARNING, "C13", "window.min_duration_sec",
					 config_where(c, "window.min_duration_sec"),
					 "is not used with traffic"),
			     "remove it; traffic.duration_sec says for how long requests are "
			     "sent, and repeats the prompts");
}

void check_loads(struct config *c)
{
	const struct traffic_config *t = &c->exp.traffic;

	if (!t->present)
		return;
	if (t->rates.n || t->concurrencies.n)
		check_one_load(c);
	check_whole(c);
	check_only_for_lists(c);
	check_ramp(c);
	check_is_server(c);
	check_recorded(c);
	check_window(c);
}
