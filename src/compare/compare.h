/*
 * compare.h — two stored runs side by side: was the same work measured, and how do the figures
 * relate? Pure.
 *
 * The same config measured on two engines sends the same token ids, and gets the same number of
 * tokens out; this is where that is shown of two runs. Every way in which their work differs is a
 * finding, in a sentence, with the first requests that differ named. What cannot be known of a run
 * (the data type of a server that somebody else started) is a note, not a difference.
 *
 * Two single runs are compared, nothing more: the intervals of the ratios hold what varied within
 * each run, not what varies from run to run (placement, clocks, temperature). That takes repeated
 * runs.
 *
 * A and B are the first and the second; ratios are B / A. Requests are matched by their order: the
 * i-th of A and the i-th of B. When the runs went through the same prompts several times, and not
 * equally often (window.min_duration_sec), the passes that both made are compared; of two closed
 * loops, which serve as many requests as they can in their time, those that both served.
 */
#ifndef LEM_COMPARE_COMPARE_H
#define LEM_COMPARE_COMPARE_H

#include "model/run_record.h"
#include "model/summary.h"

struct compare_run {
	const struct run_record *rec;
	const struct summary *sum;
};

/* What a run did, as far as it is compared. */
struct compare_facts {
	int64_t requests, answered;          /* counted ones */
	int64_t input_tokens, output_tokens; /* of those answered */
	char dtype[40];                      /* "F16", "Q8_0", "BF16, fp8"; "": not known */
	char place[160]; /* "2 x NVIDIA H100 80GB HBM3", a CPU's name; "": not known */
};

struct compare_finding {
	const char *field; /* "prompts", "output_tokens", …; static */
	bool differs;      /* false: a note, the work may be the same */
	char text[480];
};

enum { COMPARE_MAX_FINDINGS = 32, COMPARE_MAX_FIGURES = 24 };

/* low and high are NAN where a figure has no interval (a quantile of one run). */
struct compare_figure {
	const char *name, *label, *unit; /* for JSON, for people; static */
	struct quantity a, b, ratio;
};

struct comparison {
	bool same_work; /* no finding differs */
	struct compare_facts a, b;
	struct compare_finding findings[COMPARE_MAX_FINDINGS]; /* differences before notes */
	size_t n_findings;
	struct compare_figure figures[COMPARE_MAX_FIGURES];
	size_t n_figures;
};

void compare_runs(const struct compare_run *a, const struct compare_run *b, struct comparison *ret);

#endif
