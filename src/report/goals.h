/*
 * goals.h — the section of a report on latency goals. Nothing when the run has none.
 */
#ifndef LEM_REPORT_GOALS_H
#define LEM_REPORT_GOALS_H

#include "model/summary.h"
#include "report/pen.h"

void report_goals(struct pen *p, const struct summary *s);

#endif
