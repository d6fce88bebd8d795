/*
 * flops.h — floating point operations of a transformer by phase (energy.md section 8). Pure.
 */
#ifndef LEM_FLOPS_FLOPS_H
#define LEM_FLOPS_FLOPS_H

#include "model/model_shape.h"

/* FLOPs (multiply and add counted apart) to process tokens [from, to) of one sequence, i.e. context
 * positions from..to-1, of which `sampled` positions go through the output head. NAN when the shape
 * is not known well enough; why then says what is missing. */
double flops_of_span(const struct model_shape *s, int64_t from, int64_t to, int64_t sampled,
		     const char **why);

#endif
