/*
 * flops.h — floating point operations of a transformer by phase (energy.md section 8). Pure.
 *
 * Counted: every matrix that a token passes (query, key, value, output; the MLP's two or three; of
 * a mixture the router, the experts used and the shared ones), attention against the positions that
 * the token can see, and the output head once per sampled position. Not counted: norms, rotary
 * embedding, softmax and activations, which are vector work of about 0.1 % of it. A stored weight's
 * quantisation does not change the count.
 */
#ifndef LEM_FLOPS_FLOPS_H
#define LEM_FLOPS_FLOPS_H

#include "model/model_shape.h"

/* FLOPs (multiply and add counted apart) to process tokens [from, to) of one sequence, i.e. context
 * positions from..to-1, of which `sampled` positions go through the output head. Requires
 * 0 <= from <= to and sampled >= 0. NAN when the shape is not known well enough; *why then says
 * what is missing (a static text) and is NULL otherwise; why may be NULL. */
double flops_of_span(const struct model_shape *s, int64_t from, int64_t to, int64_t sampled,
		     const char **why);

#endif
